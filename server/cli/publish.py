"""`reprise publish`: one event from the command line, or each line of an input, over HTTP.

Invariant: lines are stored in their order, each once, and whenever it ends it is told which are stored. A line is sent
as soon as it is there; what has come in the meantime goes together.

Theory of operation.
1. One read of stdin gives what has come, so a slow line is not held back, and of a fast input many lines are in one
   request. While it is under way nothing is read, and the pipe holds up whoever writes into it.
2. Requests go one after the other, each under a key of its own, which every repetition has too.
3. Of a refused request nothing is stored. What stands before the line at fault is sent again, under another key:
   whether lines came alone or together, everything before that line is stored, and nothing from it on.
4. With a key of the caller's each line is a request of its own, under KEY:LINE, since how lines are grouped is chance.
   So the whole command may be repeated.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

import httpx

from server.cli.lines import Form, Line, Lines, batches
from server.cli.notes import Notes, leave_stdout
from server.cli.sending import Sender, Unanswered
from server.cli.server import INTERRUPTED, UNREAD, Misused, Refused, detail_of, refusal, server_at
from server.streams.errors import InvalidInput
from server.streams.names import parse_stream_name
from server.streams.outbox import MAX_BATCH_EVENTS

#: Half of the smallest body that a server may be told to take.
_BATCH_BYTES: Final = 1 << 19
_CHUNK_BYTES: Final = 1 << 18
#: After Ctrl-C somebody waits.
_SETTLE_SECONDS: Final = 2.0
#: A server takes 255, and the number of the line is a part of it.
_LONGEST_KEY: Final = 240
#: One event at fault may be what these are about.
_ABOUT_EVENTS: Final = frozenset({400, 413, 422})
#: Of a value a hundred levels deep nobody reads the place to its end.
_PLACE_CHARACTERS: Final = 64
_ENDS: Final = frozenset(".?!")
_POINTER: Final = re.compile(r"#/(\d{1,4})(?:/(.*))?")


@dataclass(frozen=True, slots=True)
class How:
    """What the command was told besides the stream and what to publish."""

    form: Form
    key: str | None = None
    patience_seconds: float = 300.0
    shows_ids: bool = False
    closes: bool = False


def publish(stream: str, data: str | None, *, url: str, how: How) -> int:
    """Publish `data`, or stdin line by line; returns the exit code.

    Raises `Refused`, which tells what is stored, and before anything is stored `Unreachable` and `Misused`.
    """
    _check(stream, how)
    with server_at(url, Misused) as http, Notes(is_busy=how.shows_ids) as notes:
        publisher = _Publisher(http, stream, how, notes, is_one=data is not None)
        try:
            for batch in _batches(data, how, notes):
                publisher.store(batch)
            if how.closes:
                publisher.close()
        except (Refused, Unanswered) as error:
            sentence = str(error)
            raise Refused(f"{sentence}{'' if sentence[-1:] in _ENDS else '.'} {publisher.account()}") from None
        except KeyboardInterrupt:
            try:
                publisher.settle()
            except BrokenPipeError:  # Ctrl-C has ended whoever read the ids, too
                leave_stdout()
            notes.tell(f"Interrupted. {publisher.account()}")
            return INTERRUPTED
        except BrokenPipeError:
            leave_stdout()
            notes.tell(f"Nobody reads the ids any more. {publisher.account()}")
            return UNREAD
    return 0


class _Sending(NamedTuple):
    batch: Sequence[Line]
    key: str


class _Publisher:
    """Sends batches, and knows what has become of them."""

    def __init__(self, http: httpx.Client, stream: str, how: How, notes: Notes, *, is_one: bool) -> None:
        self._http = http
        self._path = f"streams/{quote(stream, safe='')}"
        self._how = how
        self._notes = notes
        #: Whether there is one event, of which nobody counts the lines.
        self._is_one = is_one
        self._sender = Sender(http, patience_seconds=how.patience_seconds, waiting=notes.wait)
        self._stored_to = 0
        #: Set while it is open what becomes of these.
        self._sending: _Sending | None = None
        self._is_all_read = False

    def store(self, batch: Sequence[Line]) -> None:
        """Returns once all are stored. Raises `Refused`, `Unanswered`, and `Unreachable` at first."""
        good = list(takewhile(lambda line: not line.fault, batch))
        if good:
            self._send(good)
        if len(good) < len(batch):
            bad = batch[len(good)]
            raise Refused(f"{'The data' if self._is_one else f'Line {bad.number}'} {bad.fault}.")

    def close(self) -> None:
        """End the stream. Raises as `store` does."""
        self._is_all_read = True
        response = self._sender.post(f"{self._path}/close", headers={"idempotency-key": uuid.uuid4().hex})
        if response.status_code != 200:
            self._sender.is_in_doubt = False
            raise Refused(refusal(response), status=response.status_code)

    def settle(self) -> None:
        """Ask once more what became of the request that was interrupted; its key makes that harmless."""
        if self._sending is None or not self._sender.is_in_doubt:
            return
        batch, key = self._sending
        with suppress(httpx.HTTPError, KeyboardInterrupt):
            response = self._http.post(**_request(self._path, batch, key), timeout=_SETTLE_SECONDS)
            if response.status_code == 201:
                self._done(batch, response)
            elif response.status_code < 500:
                self._sending = None

    def account(self) -> str:
        """What is stored and what is not."""
        doubtful = self._sending.batch if self._sending is not None and self._sender.is_in_doubt else ()
        if self._is_all_read:
            doubt = "whether the stream is closed is not known"
            return f"Everything is stored, but {doubt if self._sender.is_in_doubt else 'the stream is not closed'}."
        if self._is_one:
            if doubtful:
                return "Whether it is stored is not known."
            return "It is stored." if self._stored_to else "Nothing is stored."
        parts = [f"{_span(1, self._stored_to)} stored"] if self._stored_to else []
        if doubtful:
            span = _span(doubtful[0].number, doubtful[-1].number)
            parts.append(f"whether {span[:1].lower()}{span[1:]} stored is not known")
        after = doubtful[-1].number if doubtful else self._stored_to
        parts.append(f"nothing from line {after + 1} on is stored" if parts else "nothing is stored")
        text = "; ".join(parts)
        return f"{text[:1].upper()}{text[1:]}."

    def _send(self, batch: Sequence[Line]) -> None:
        key = self._key(batch)
        self._sending = _Sending(batch, key)
        response = self._sender.post(**_request(self._path, batch, key))
        if response.status_code == 201:
            self._done(batch, response)
            return
        self._sending = None
        if response.status_code not in _ABOUT_EVENTS:
            raise self._refused(batch[0], response, detail_of(response))
        place, detail = _at_fault(response)
        if place is not None and place < len(batch):
            if place:
                self._send(batch[:place])
            raise self._refused(batch[place], response, detail)
        if len(batch) == 1:
            raise self._refused(batch[0], response, detail)
        middle = len(batch) // 2
        self._send(batch[:middle])
        self._send(batch[middle:])

    def _done(self, batch: Sequence[Line], response: httpx.Response) -> None:
        ids = _ids(response, len(batch))
        self._stored_to, self._sending = batch[-1].number, None
        if self._how.shows_ids:
            print(*ids, sep="\n", flush=True)
        if not self._is_one:
            self._notes.progress(self._stored_to)

    def _key(self, batch: Sequence[Line]) -> str:
        if self._how.key is None:
            return uuid.uuid4().hex
        return self._how.key if self._is_one else f"{self._how.key}:{batch[0].number}"

    def _refused(self, line: Line, response: httpx.Response, detail: str) -> Refused:
        what = "The server refuses" if self._is_one else f"Line {line.number} is refused"
        return Refused(f"{what} ({response.status_code}): {detail}", status=response.status_code)


def _check(stream: str, how: How) -> None:
    try:
        parse_stream_name(stream)
    except InvalidInput as error:
        raise Misused(str(error)) from None
    form = how.form
    if form.is_json and (form.type is not None or form.key is not None or form.is_appended):
        raise Misused("With --json the event itself says its type and key: leave --type, --key and --append out.")
    if form.is_appended and form.key is not None:
        raise Misused("An event has a key, or is appended to the one before it: leave --key or --append out.")
    for option, text in (("--type", form.type), ("--key", form.key)):
        if text is not None and not text.isprintable():
            raise Misused(f"{option} is {text!r}, which holds what cannot be printed. Use plain text.")
    key = how.key
    if key is not None and not (
        0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable() and key == key.strip()
    ):
        raise Misused(
            f"--idempotency-key is {key[:64]!r}. Use 1 to {_LONGEST_KEY} printable ASCII characters, such as a UUID, "
            "without blanks around them."
        )
    if not how.patience_seconds >= 0:
        raise Misused(f"--patience is {how.patience_seconds!r}. Use a number of seconds, 0 or more.")


def _batches(data: str | None, how: How, notes: Notes) -> Iterator[Sequence[Line]]:
    """What is to be sent, as it comes. Raises `Refused` if the input cannot be read to its end."""
    if data is not None:
        line = how.form.line(1, os.fsencode(data))
        if line is None:
            raise Refused("The data is empty, which is no JSON.")
        yield [line]
        return
    if sys.stdin is None:  # so it is where stdin is closed
        raise Misused("There is nothing to read: stdin is closed. Give the data as an argument, or pipe it in.")
    if sys.stdin.isatty():
        notes.note("each line is an event; Ctrl-D ends")
    lines = Lines(how.form)
    most = 1 if how.key is not None else MAX_BATCH_EVENTS
    is_any = False
    for found in _fed(lines):
        for batch in batches(found, most_lines=most, most_bytes=_BATCH_BYTES):
            is_any = True
            yield batch
    if not is_any:
        notes.note(f"stdin {'was empty' if lines.is_empty else 'held empty lines only'}: nothing is stored")


def _fed(lines: Lines) -> Iterator[Iterator[Line]]:
    """The lines of stdin: what has come at once together."""
    for chunk in _chunks():
        yield lines.feed(chunk)
    yield lines.end()


def _chunks() -> Iterator[bytes]:
    descriptor = sys.stdin.fileno()
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise Refused(f"stdin cannot be read: {error.strerror}.") from None


def _request(path: str, batch: Sequence[Line], key: str) -> dict[str, Any]:
    """As httpx is told it."""
    return {
        "url": f"{path}/events",
        "headers": {"content-type": "application/x-ndjson", "idempotency-key": key},
        "content": b"\n".join(line.body for line in batch),
    }


def _ids(response: httpx.Response, count: int) -> list[str]:
    with suppress(ValueError, KeyError, TypeError):
        ids = [str(each) for each in response.json()["ids"]]
        if len(ids) == count:
            return ids
    raise Refused(f"What answers at {response.url} is not Reprise. Name its server with --url.")


def _at_fault(response: httpx.Response) -> tuple[int | None, str]:
    """The first event that the server points at, and what it says of it."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        found = list[tuple[int, str]]()
        for error in cast("list[dict[str, Any]]", response.json()["errors"]):
            if match := _POINTER.fullmatch(error["pointer"]):
                place = match[2] or ""
                member = f"{place[:_PLACE_CHARACTERS]}{'…' * (len(place) > _PLACE_CHARACTERS)}: " if place else ""
                found.append((int(match[1]), f"{member}{error['detail']}"))
        if found:
            return min(found, key=lambda each: each[0])
    return None, detail_of(response)


def _span(first: int, last: int) -> str:
    return f"Line {first} is" if first == last else f"Lines {first} to {last} are"
