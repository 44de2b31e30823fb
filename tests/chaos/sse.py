"""An HTTP response and the event stream in it, decoded by the standards and by nothing of the product.

Pure. HTTP/1.1 (RFC 9112): a status line, headers, and a body that is chunked, counted, or ends with the connection.
Event streams: https://html.spec.whatwg.org/multipage/server-sent-events.html. A block that the end cuts off is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


class Malformed(Exception):
    """Bytes that are no HTTP response."""


@dataclass(frozen=True, slots=True)
class Message:
    """One dispatched event."""

    type: str
    data: str
    #: What the block itself says; empty if it says nothing.
    id: str


class EventDecoder:
    """Takes the body in pieces. It belongs to one connection; `last_event_id` is taken over by the next one's."""

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self._rest = b""
        self._is_first = True
        self._data: list[str] = []
        self._type = ""
        self._id: str | None = None

    def feed(self, body: bytes) -> list[Message]:
        self._rest += body
        if self._is_first and self._rest:
            self._rest = self._rest.removeprefix(b"\xef\xbb\xbf")
            self._is_first = False
        found: list[Message] = []
        begin = 0
        for end in _LINE_END.finditer(self._rest):
            if end.end() == len(self._rest) and end.group() == b"\r":
                break  # an LF may follow in the next piece
            message = self._line(self._rest[begin : end.start()].decode(errors="replace"))
            begin = end.end()
            if message:
                found.append(message)
        self._rest = self._rest[begin:]
        return found

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Message | None:
        data, kind, event_id = self._data, self._type, self._id
        self._data, self._type, self._id = [], "", None
        if event_id is not None:
            self.last_event_id = event_id
        return Message(kind or "message", "\n".join(data), event_id or "") if data else None


class Response:
    """Takes what a connection brings; `feed` returns what of it is body."""

    def __init__(self) -> None:
        #: 0 before the head is complete.
        self.status = 0
        self.content_type = ""
        #: Whether the body came to an end of its own.
        self.is_complete = False
        self._rest = b""
        self._left: int | None = None
        self._is_chunked = False

    def feed(self, raw: bytes) -> bytes:
        """Raises `Malformed`."""
        self._rest += raw
        if not self.status and not self._head():
            return b""
        if self._is_chunked:
            return self._chunks()
        body, self._rest = self._rest, b""
        if self._left is not None:
            self._left -= len(body)
            self.is_complete = self._left <= 0
        return body

    def _head(self) -> bool:
        head, separator, rest = self._rest.partition(b"\r\n\r\n")
        if not separator:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Malformed(f"{first!r} is no status line.")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.status, self._rest = int(words[1]), rest
        self.content_type = headers.get("content-type", "")
        self._is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if self.status == 204:
            self._left = 0
        elif "content-length" in headers:
            self._left = int(headers["content-length"])
        self.is_complete = self._left == 0
        return True

    def _chunks(self) -> bytes:
        body = b""
        while not self.is_complete:
            if self._left:
                piece, self._rest = self._rest[: self._left], self._rest[self._left :]
                self._left -= len(piece)
                body += piece
                if self._left:
                    return body
            # Behind each chunk is a line end, which is taken together with the next size.
            size, separator, rest = self._rest.removeprefix(b"\r\n").partition(b"\r\n")
            if not separator:
                return body
            try:
                self._left = int(size.partition(b";")[0], 16)
            except ValueError:
                raise Malformed(f"{size[:40]!r} is no size of a chunk.") from None
            self._rest = rest
            self.is_complete = self._left == 0
        return body
