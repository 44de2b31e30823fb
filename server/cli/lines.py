"""The lines of an input as events, each with its number, which is how a person finds it again.

Invariant: a line is handed out as soon as its end is there, and no line is handed out twice or left out. What cannot be
an event is handed out too, with what is wrong with it: what stands before it has to be published first. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

#: Far above what any server takes for one event; an input without line ends must not fill the memory.
_LONGEST_LINE: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One event to be published: its JSON, or what is wrong."""

    number: int
    body: bytes
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """What a line is."""

    #: A JSON object with the members of an event; else the text of one.
    is_json: bool = False
    type: str | None = None
    key: str | None = None
    #: The text continues that of the event before it.
    is_appended: bool = False

    def line(self, number: int, raw: bytes, *, end: bytes = b"") -> Line | None:
        """The event; None for a line that is empty where an empty one is none. `end` is the line end that it had."""
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            byte = raw[error.start]
            return Line(number, b"", f"is not UTF-8: the byte 0x{byte:02x} at place {error.start + 1} is no text")
        if self.is_json:
            return self._json(number, text)
        event: dict[str, Any] = {"type": self.type} if self.type is not None else {}
        if self.is_appended:
            event["append"] = text + end.decode()
        else:
            event["data"] = text
        if self.key is not None:
            event["key"] = self.key
        return Line(number, json.dumps(event, ensure_ascii=False).encode())

    def _json(self, number: int, text: str) -> Line | None:
        if not text.strip():
            return None
        try:
            value = json.loads(text)
        except RecursionError:
            pass  # JSON it may be; the server has a sentence for what is nested so deeply
        except json.JSONDecodeError as error:
            reason = error.msg.removesuffix(" at").rstrip(": ")
            return Line(number, b"", f"is not JSON: {reason[:1].lower()}{reason[1:]} at column {error.colno}")
        except ValueError:
            pass  # a number too large for Python; the server has a sentence for it too
        else:
            if not isinstance(value, dict):
                return Line(number, b"", 'is no JSON object such as {"type": "note", "data": "Hello"}')
        # A line end within JSON that holds is nothing but space.
        return Line(number, text.replace("\n", " ").encode())


@dataclass(slots=True)
class Lines:
    """Fed with an input piece by piece, wherever it is cut."""

    form: Form
    #: How many lines have ended so far.
    count: int = 0
    _rest: list[bytes] = field(default_factory=list[bytes])
    _rest_bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing at all."""
        return not self.count and not self._rest

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that end in this chunk; one that is too long, as soon as it is."""
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            whole = b"".join([*self._rest, part])
            self._rest, self._rest_bytes = [], 0
            yield from self._line(whole, b"\n")
        if rest:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
        if self._rest_bytes > _LONGEST_LINE:
            yield Line(self.count + 1, b"", f"is longer than {_LONGEST_LINE} bytes; send a link to the data instead")

    def end(self) -> Iterator[Line]:
        """Yield what stands behind the last line end."""
        if self._rest:
            yield from self._line(b"".join(self._rest), b"")

    def _line(self, raw: bytes, end: bytes) -> Iterator[Line]:
        self.count += 1
        line = self.form.line(self.count, raw.removesuffix(b"\r") if end else raw, end=end)
        if line is not None:
            yield line


def batches(lines: Iterator[Line], *, most_lines: int, most_bytes: int) -> Iterator[Sequence[Line]]:
    """Yield the lines in groups that fit into a request; one that is larger by itself alone."""
    batch, size = list[Line](), 0
    for line in lines:
        if batch and (len(batch) == most_lines or size + len(line.body) > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.body) + 1
    if batch:
        yield batch
