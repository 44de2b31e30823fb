"""The subscribers: one process, one epoll, as many connections as asked for.

`python -m benchmarks.load.subscribers FD`. Invariant: every byte of every body goes through a `Reader`, so a run ends
either with everything received once and in order by everybody, or with a sentence. The clock stops when the last
subscriber has its last event, not before. Connections are reset at the end, so that no port waits in TIME_WAIT.
"""

from __future__ import annotations

import errno
import gc
import select
import socket
import struct
import sys
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, Final

from benchmarks.load.child import parent, serve
from benchmarks.load.response import BadResponse, Response
from benchmarks.load.spec import Ask, Asked, Attached, Count, Counted, Drained, Killed, LoadSpec, Progress, Stall
from benchmarks.load.transcript import Broken, Reader, Transcript

_READ_BYTES: Final = 65_536
#: Few at a time, so that a sampled subscriber waits for few others before its time is taken.
_BATCH: Final = 64
#: Requests under way while attaching: below every backlog, so that no connection is dropped by the kernel.
_ATTACHING: Final = 256
#: For thousands of streams that nobody had watched before.
_ATTACH_SECONDS: Final = 180.0
_POLL_SECONDS: Final = 0.05
_PROGRESS_SECONDS: Final = 0.25
#: After everything is here: time for an event that comes twice to show itself.
_LINGER_SECONDS: Final = 0.25
#: A stalled reader that takes in as little as the kernel allows.
_STALLED_BUFFER: Final = 4096
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class _Subscriber:
    __slots__ = ("caught_up_ns", "is_connecting", "is_waiting", "path", "reader", "response", "samples", "socket")

    def __init__(self, reader: Reader, path: str) -> None:
        self.reader = reader
        self.path = path
        self.socket: socket.socket | None = None
        self.response = Response()
        self.is_connecting = False
        #: Whether it has not been answered yet.
        self.is_waiting = True
        #: Next event whose time is taken; -1 for one that is not sampled.
        self.samples = -1
        #: Since a kill; -1 until it has the newest event.
        self.caught_up_ns = -1


class Subscribers:
    """All subscribers of a spec. `run` returns when the parent closes the pipe."""

    def __init__(self, spec: LoadSpec, pipe: Connection) -> None:
        self._spec = spec
        self._pipe = pipe
        self._epoll = select.epoll()
        self._epoll.register(pipe.fileno(), select.EPOLLIN)
        self._transcripts = [
            Transcript(path, events=spec.events, first=spec.first, line_end=spec.line_end) for path in spec.paths
        ]
        self._all = [
            _Subscriber(Reader(f"subscriber {index}", transcript), path)
            for path, transcript in zip(spec.paths, self._transcripts, strict=True)
            for index in range(spec.subscribers)
        ]
        step = max(1, len(self._all) // spec.samples) if spec.samples else 0
        for subscriber in self._all[step // 2 :: step] if step else []:
            subscriber.samples = 0
        self._by_fd: dict[int, _Subscriber] = {}
        self._to_attach = deque(self._all)
        self._attaching = 0
        self._is_attached = False
        self._unfinished = len(self._all) if spec.events else -1
        self._killed_at_ns = 0
        self._behind = 0
        #: (when, who) comes back; all wait equally long, so the first is due first.
        self._returning: deque[tuple[float, _Subscriber]] = deque()
        self._stalled: list[socket.socket] = []
        self._drained: Drained | None = None
        self._reads = self._bytes = self._reconnections = 0
        self._sampled: list[tuple[int, int]] = []
        self._next_progress = 0.0
        self._give_up_at = time.monotonic() + _ATTACH_SECONDS

    def run(self) -> None:
        pipe_fd = self._pipe.fileno()
        reported = False
        while True:
            self._attach_more()
            for fd, mask in self._epoll.poll(_POLL_SECONDS, _BATCH):
                if fd == pipe_fd:
                    self._obey(self._pipe.recv())
                elif subscriber := self._by_fd.get(fd):
                    self._serve(subscriber, mask)
            self._return_some()
            self._tell_progress()
            if self._drained and not reported and time.monotonic_ns() > self._drained.at_ns + _LINGER_SECONDS * 1e9:
                reported = True
                self._report(self._drained)

    # --- Connections

    def _attach_more(self) -> None:
        while self._to_attach and self._attaching < _ATTACHING:
            self._attaching += 1
            self._connect(self._to_attach.popleft())

    def _connect(self, subscriber: _Subscriber) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        outcome = connection.connect_ex((self._spec.host, self._spec.port))
        if outcome not in {0, errno.EINPROGRESS}:
            connection.close()
            self._lost(subscriber, errno.errorcode.get(outcome, str(outcome)))
            return
        subscriber.socket = connection
        subscriber.is_connecting = True
        subscriber.is_waiting = True
        subscriber.response = Response()
        self._by_fd[connection.fileno()] = subscriber
        self._epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _serve(self, subscriber: _Subscriber, mask: int) -> None:
        if subscriber.is_connecting:
            self._connected(subscriber)
        elif subscriber.socket is not None and mask & ~select.EPOLLOUT:
            self._read(subscriber, subscriber.socket)

    def _connected(self, subscriber: _Subscriber) -> None:
        connection = subscriber.socket
        if connection is None:
            return
        if failure := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(subscriber, errno.errorcode.get(failure, str(failure)))
            return
        subscriber.is_connecting = False
        self._epoll.modify(connection.fileno(), select.EPOLLIN)
        if self._spec.asks_later and not self._is_attached:
            self._answered(subscriber)
            subscriber.is_waiting = True
        else:
            self._ask(subscriber)

    def _ask(self, subscriber: _Subscriber) -> None:
        if subscriber.socket is None:
            return
        cursor = subscriber.reader.last_event_id()
        resume = b"Last-Event-ID: %b\r\n" % cursor if cursor else b""
        subscriber.socket.send(
            b"GET %b HTTP/1.1\r\nHost: %b\r\nAccept: text/event-stream\r\n%b\r\n"
            % (subscriber.path.encode(), self._spec.host.encode(), resume)
        )

    def _answered(self, subscriber: _Subscriber) -> None:
        subscriber.is_waiting = False
        if self._is_attached:
            return
        self._attaching -= 1
        if not self._to_attach and not self._attaching:
            self._is_attached = True
            self._give_up_at = time.monotonic() + self._spec.patience_seconds
            gc.collect()
            gc.freeze()
            self._pipe.send(Attached())

    def _drop(self, subscriber: _Subscriber, why: str) -> None:
        if subscriber.socket is not None:
            del self._by_fd[subscriber.socket.fileno()]
            subscriber.socket.close()
            subscriber.socket = None
        self._lost(subscriber, why)

    def _lost(self, subscriber: _Subscriber, why: str) -> None:
        reader = subscriber.reader
        if self._spec.events and reader.has_all:
            return
        if self._spec.reconnect_ms is None:
            raise Broken(
                f"Stream {subscriber.path}, {reader.name}: the response ended ({why}) after {reader.count} "
                f"of {self._spec.events} events."
            )
        reader.rewind()
        self._returning.append((time.monotonic() + self._spec.reconnect_ms / 1000, subscriber))

    def _return_some(self) -> None:
        now = time.monotonic()
        while self._returning and self._returning[0][0] <= now:
            self._reconnections += 1
            self._connect(self._returning.popleft()[1])

    # --- Reading

    def _read(self, subscriber: _Subscriber, connection: socket.socket) -> None:
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(subscriber, error.strerror or str(error))
            return
        if not data:
            self._drop(subscriber, "closed by the server")
            return
        self._reads += 1
        self._bytes += len(data)
        reader = subscriber.reader
        before, had_all = reader.position, reader.has_all
        self._take(subscriber, data)
        if reader.position != before:
            if subscriber.samples >= 0 or self._behind:
                self._take_times(subscriber)
            if not had_all and reader.has_all:
                self._finished()
        if subscriber.response.is_over:
            self._drop(subscriber, "its end was sent")

    def _take(self, subscriber: _Subscriber, data: bytes) -> None:
        response, reader = subscriber.response, subscriber.reader
        try:
            pieces = response.pieces(data)
        except BadResponse as bad:
            raise Broken(f"Stream {subscriber.path}, {reader.name}: {bad}") from None
        if subscriber.is_waiting and response.status:
            self._check_head(subscriber)
        for piece in pieces:
            reader.take(piece)

    def _check_head(self, subscriber: _Subscriber) -> None:
        response = subscriber.response
        if response.status != 200 or not response.content_type.startswith(b"text/event-stream"):
            raise Broken(
                f"Stream {subscriber.path}, {subscriber.reader.name}: answered {response.status} "
                f"with {response.content_type.decode(errors='replace')!r} instead of an event stream."
            )
        if self._spec.asks_later:
            subscriber.is_waiting = False
        else:
            self._answered(subscriber)

    def _take_times(self, subscriber: _Subscriber) -> None:
        now = time.monotonic_ns()
        reader = subscriber.reader
        transcript = reader.transcript
        ends, stamps = transcript.ends, transcript.stamps
        if (number := subscriber.samples) >= 0:
            while number < len(ends) and ends[number] <= reader.position:
                self._sampled.append((transcript.first + number, now - stamps[number]))
                number += 1
            subscriber.samples = number
        if self._behind and subscriber.caught_up_ns < 0 and (count := reader.count):
            is_newest = count == self._spec.events or now < stamps[count - 1] + self._spec.interval_ns
            if is_newest and self._killed_at_ns < now:
                subscriber.caught_up_ns = now - self._killed_at_ns
                self._behind -= 1

    def _finished(self) -> None:
        self._unfinished -= 1
        if not self._unfinished and not self._drained:
            self._drained = Drained(time.monotonic_ns(), 0, self._reads, self._bytes, self._reconnections)

    # --- The parent

    def _obey(self, message: Any) -> None:
        if isinstance(message, Ask):
            self._pipe.send(Asked(time.monotonic_ns()))
            for subscriber in self._all:
                self._ask(subscriber)
        elif isinstance(message, Killed):
            self._killed_at_ns = message.at_ns
            self._behind = len(self._all)
        elif isinstance(message, Count):
            self._pipe.send(Counted(sum(each.reader.count for each in self._all)))
        elif isinstance(message, Stall):
            self._stall()

    def _stall(self) -> None:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_BUFFER)
        connection.connect((self._spec.host, self._spec.port))
        path = self._spec.paths[0].partition("?")[0]
        connection.send(
            b"GET %b HTTP/1.1\r\nHost: %b\r\nAccept: text/event-stream\r\n\r\n"
            % (path.encode(), self._spec.host.encode())
        )
        self._stalled.append(connection)

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if now < self._next_progress:
            return
        self._next_progress = now + _PROGRESS_SECONDS
        if not self._is_attached:
            self._pipe.send(Progress(1 - (len(self._to_attach) + self._attaching) / len(self._all)))
        elif self._spec.events and not self._drained:
            probe = self._all[:: max(1, len(self._all) // 50)]
            self._pipe.send(Progress(sum(each.reader.count for each in probe) / (len(probe) * self._spec.events)))
        if now > self._give_up_at and not self._drained and (self._spec.events or not self._is_attached):
            raise Broken(self._who_is_missing())

    def _who_is_missing(self) -> str:
        if not self._is_attached:
            waiting = len(self._to_attach) + self._attaching
            return f"After {_ATTACH_SECONDS:g} s {waiting} of {len(self._all)} subscribers have no answer."
        patience = f"After {self._spec.patience_seconds:g} s"
        last = min(self._all, key=lambda each: each.reader.count)
        return (
            f"{patience} {self._unfinished} of {len(self._all)} subscribers lack events. Stream {last.path}, "
            f"{last.reader.name}: expected {self._spec.events} events, got {last.reader.count}."
        )

    def _report(self, drained: Drained) -> None:
        drained.delivered = sum(each.reader.count for each in self._all)
        drained.sampled = self._sampled
        if self._killed_at_ns:
            drained.caught_up_ns = [each.caught_up_ns for each in self._all]
        self._pipe.send(drained)


def main() -> None:
    pipe = parent(sys.argv)
    spec: LoadSpec = pipe.recv()
    serve(pipe, Subscribers(spec, pipe).run)


if __name__ == "__main__":
    main()
