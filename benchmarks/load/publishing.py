"""A publisher with a process of its own: posts over HTTP, or appends to Redis, at an even pace.

`python -m benchmarks.load.publishing FD`. Invariant: the events of a stream go over one connection in order, each is
stamped when it is written to the socket, and each must be confirmed by the peer; any other answer fails the run.
Requests are pipelined, so that the publisher waits for nobody's round trip.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final

from benchmarks.load.child import parent, serve
from benchmarks.load.spec import Go, Published, PublishSpec, Ready
from benchmarks.load.transcript import Broken
from benchmarks.payload import encoded, filling

_READ_BYTES: Final = 262_144
#: Written ahead of the answers, on each connection. Enough to keep a peer busy; a peer that is behind is not buried.
_LARGEST_LEAD: Final = 256
_SILENCE_SECONDS: Final = 30.0
_LONGEST_SLEEP_SECONDS: Final = 0.05

#: A confirmation, and what a refusal holds.
_CONFIRMED: Final = {"http": b"HTTP/1.1 20", "redis": b"\n$"}
_REFUSED: Final = {"http": (b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5"), "redis": (b"\n-",)}


class _Line:
    """One connection with what is unsent and how many confirmations are missing."""

    def __init__(self, spec: PublishSpec) -> None:
        self.socket = socket.create_connection((spec.host, spec.port), timeout=_SILENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = bytearray()
        self.unconfirmed = 0
        self._confirmed, self._refused = _CONFIRMED[spec.wire], _REFUSED[spec.wire]
        # A reply may be cut anywhere by a read: the end of each is kept, shorter than what is looked for. It starts
        # with a line end, so that the first reply looks like all others.
        self._rest = b"\n"

    def send(self) -> None:
        if self.unsent:
            try:
                sent = self.socket.send(self.unsent)
            except BlockingIOError:
                return
            del self.unsent[:sent]

    def receive(self) -> None:
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise Broken("A publisher's connection was closed by the peer.")
        data = self._rest + data
        for sign in self._refused:
            if (at := data.find(sign)) >= 0:
                raise Broken(f"A published event was refused: {data[at : at + 120]!r}.")
        self.unconfirmed -= data.count(self._confirmed)
        self._rest = data[-(len(self._confirmed) - 1) :]


class Publisher:
    """Publishes an emission once."""

    def __init__(self, spec: PublishSpec) -> None:
        self._spec = spec
        self._lines = [_Line(spec) for _ in range(min(spec.connections, len(spec.targets)))]
        self._text = filling(spec.emission.event_bytes)
        self._encode = _ENCODERS[spec.wire]
        self._epoll = select.epoll()
        for line in self._lines:
            self._epoll.register(line.socket.fileno(), select.EPOLLIN)
        self._by_fd = {line.socket.fileno(): line for line in self._lines}

    def run(self, start_ns: int) -> None:
        emission = self._spec.emission
        total = emission.streams * emission.events
        written, heard_at = 0, time.monotonic()
        while written < total or any(line.unconfirmed for line in self._lines):
            now = time.monotonic_ns()
            written = self._write_due(written, total, now - start_ns)
            for line in self._lines:
                line.send()
            for fd, _ in self._epoll.poll(self._pause(written, total, start_ns)):
                self._by_fd[fd].receive()
                heard_at = time.monotonic()
            if any(line.unconfirmed for line in self._lines) and time.monotonic() - heard_at > _SILENCE_SECONDS:
                raise Broken(f"A publisher has not been answered for {_SILENCE_SECONDS:g} s.")

    def _write_due(self, written: int, total: int, since_ns: int) -> int:
        emission = self._spec.emission
        while written < total:
            number, stream = divmod(written, emission.streams)
            if emission.due_ns(stream, number) > since_ns:
                break
            line = self._lines[stream % len(self._lines)]
            if line.unconfirmed >= _LARGEST_LEAD:
                break
            line.unsent += self._encode(self._spec.targets[stream], encoded(number, time.monotonic_ns(), self._text))
            line.unconfirmed += 1
            written += 1
        return written

    def _pause(self, written: int, total: int, start_ns: int) -> float:
        if any(line.unsent for line in self._lines):
            return 0.001
        if written >= total:
            return _LONGEST_SLEEP_SECONDS
        number, stream = divmod(written, self._spec.emission.streams)
        if self._lines[stream % len(self._lines)].unconfirmed >= _LARGEST_LEAD:
            return _LONGEST_SLEEP_SECONDS
        due = start_ns + self._spec.emission.due_ns(stream, number)
        return min(_LONGEST_SLEEP_SECONDS, max(0.0, (due - time.monotonic_ns()) / 1e9))


def _post(path: str, data: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: benchmark\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(data), data)


def _append(key: str, data: bytes) -> bytes:
    name = key.encode()
    return (
        b"*10\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$5\r\n10000\r\n"
        b"$1\r\n*\r\n$5\r\nevent\r\n$5\r\ntoken\r\n$4\r\ndata\r\n$%d\r\n%b\r\n" % (len(name), name, len(data), data)
    )


_ENCODERS: Final[dict[str, Callable[[str, bytes], bytes]]] = {"http": _post, "redis": _append}


def _work(pipe: Connection) -> None:
    publisher = Publisher(pipe.recv())
    pipe.send(Ready())
    while True:
        go: Go = pipe.recv()
        publisher.run(go.at_ns)
        pipe.send(Published(time.monotonic_ns()))


def main() -> None:
    pipe = parent(sys.argv)
    serve(pipe, lambda: _work(pipe))


if __name__ == "__main__":
    main()
