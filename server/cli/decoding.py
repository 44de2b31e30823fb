"""The bytes of an event stream as events. Pure; what the WHATWG standard says of lines, fields and `retry`.

Invariant: an event is handed out only with the blank line that ends it, so that a connection cut in the middle
of one yields nothing of it, and the cursor never runs ahead of what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: A CR at the end of a chunk may be half of a CRLF: it waits for the next one.
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True, slots=True)
class Received:
    """One event as a reader sees it; `id` is the cursor after it."""

    type: str
    data: str
    id: str
    #: Whether it came with an id of its own; one without leaves the cursor where it was.
    has_id: bool = field(default=True, compare=False)


@dataclass(slots=True)
class Decoder:
    """Fed with the chunks of one response."""

    #: What to ask for next time; set by a block with `id:` once the block is whole.
    cursor: str = ""
    #: Milliseconds to wait before the next connection, if the server said so.
    retry_ms: int | None = None
    #: The newest comment: why a server ends a response that it has hardly begun.
    comment: str = ""
    _rest: bytes = b""
    _id: str = ""
    _has_id: bool = False
    _type: str = ""
    _data: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._id = self.cursor

    def feed(self, chunk: bytes) -> Iterator[Received]:
        """Yield the events that end in this chunk."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            if line:
                self._field(line.decode(errors="replace"))
            elif (received := self._dispatch()) is not None:
                yield received

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id, self._has_id = value, True
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        elif not name:
            self.comment = value

    def _dispatch(self) -> Received | None:
        self.cursor = self._id
        received = None
        if self._data:
            received = Received(self._type or "message", "\n".join(self._data), self._id, self._has_id)
        self._type, self._data, self._has_id = "", [], False
        return received
