"""An HTTP/1.1 response taken apart while it comes: the head once, then pieces of the body. Pure.

Invariant: pieces are the body's bytes in order, none missing; whether chunked or ended by the connection's end makes
no difference to the caller. One read that holds one whole chunk, the usual case, costs one slice.
"""

from __future__ import annotations

from typing import Final

_LINE_END: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_LONGEST_HEAD: Final = 16_384
_LONGEST_SIZE_LINE: Final = 64


class BadResponse(Exception):
    """The peer's: bytes that are no HTTP/1.1 response."""


class Response:
    """Feed it what was read; it returns what belongs to the body."""

    __slots__ = ("_is_chunked", "_left", "_pending", "content_type", "is_over", "status")

    def __init__(self) -> None:
        #: 0 until the head is complete.
        self.status: int = 0
        self.content_type: bytes = b""
        #: Whether a chunked body has said that it ends. Others end with their connection.
        self.is_over: bool = False
        self._is_chunked: bool = False
        #: Bytes that do not yet make a head or a size line.
        self._pending: bytes = b""
        #: What is left of the current chunk, its line end included.
        self._left: int = 0

    def pieces(self, data: bytes) -> list[bytes]:
        """The body's part of `data`. Raises `BadResponse`."""
        if not self.status:
            data = self._read_head(data)
            if not data:
                return []
        return self._dechunk(data) if self._is_chunked else [data]

    def _read_head(self, data: bytes) -> bytes:
        data = self._pending + data
        head, found, rest = data.partition(_HEAD_END)
        if not found:
            if len(data) > _LONGEST_HEAD:
                raise BadResponse(f"No end of a response head within {_LONGEST_HEAD} bytes: {data[:80]!r}.")
            self._pending = data
            return b""
        self._pending = b""
        status_line, *fields = head.split(_LINE_END)
        parts = status_line.split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
            raise BadResponse(f"Not a status line of HTTP/1.1: {status_line!r}.")
        for field in fields:
            name, _, value = field.partition(b":")
            if name.lower() == b"transfer-encoding":
                self._is_chunked = value.strip().lower() == b"chunked"
            elif name.lower() == b"content-type":
                self.content_type = value.strip()
        self.status = int(parts[1])
        return rest

    def _dechunk(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                line_end = data.find(_LINE_END, at)
                if line_end < 0:
                    self._hold(data[at:])
                    break
                size = self._size(data[at:line_end])
                at = line_end + 2
                if not size:
                    self.is_over = True
                    break
                self._left = size + 2
            # The last two bytes of what is left are the line end behind the chunk.
            stop = min(at + self._left - 2, end)
            if stop > at:
                pieces.append(data[at:stop])
            taken = min(self._left, end - at)
            self._left -= taken
            at += taken
        return pieces

    def _hold(self, data: bytes) -> None:
        if len(data) > _LONGEST_SIZE_LINE:
            raise BadResponse(f"Not the size line of a chunk: {data[:80]!r}.")
        self._pending = data

    @staticmethod
    def _size(line: bytes) -> int:
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            raise BadResponse(f"Not the size line of a chunk: {line[:80]!r}.") from None
