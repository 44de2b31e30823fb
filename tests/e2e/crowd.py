"""A crowd of EventSources in one process: what a browser does with connections and cursors, at little cost each.

By the WHATWG rules: the last id goes back as `Last-Event-ID`, the time to come back is the last `retry:`, a connection
that fails or ends is made again, and any status but 200 ends it for good. Nothing is repaired; each answer is kept with
its status, its end and its times. Written for this, so that no parser of the product's or of a library is believed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.e2e.reader import Received

#: Chromium's, for a stream that says nothing.
_UNTOLD_RETRY_SECONDS = 3.0
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass(slots=True)
class Answer:
    """One request and what became of it. Times are those of the event loop."""

    asked_at: float
    #: 0 as long as there is none.
    status: int = 0
    #: When the first event with data came, and the last.
    event_at: float | None = None
    last_event_at: float = 0.0
    ended_at: float = 0.0
    #: Whether the body came to the end that HTTP knows.
    is_whole: bool = False


class EventSource:
    """One reader. `follow` returns when it is told by a status to come no more."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self.events: list[Received] = []
        self.answers: list[Answer] = []
        #: As it was told last.
        self.retry_seconds = _UNTOLD_RETRY_SECONDS
        self.cursor = ""

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]

    async def follow(self) -> None:
        while True:
            await self._ask()
            if self.answers[-1].status not in {0, 200}:
                return
            await asyncio.sleep(self.retry_seconds)

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        answer = Answer(loop.time())
        self.answers.append(answer)
        with suppress(OSError):
            transport, response = await loop.create_connection(lambda: _Response(self, answer), "127.0.0.1", self._port)
            try:
                cursor = f"last-event-id: {self.cursor}\r\n" if self.cursor else ""
                transport.write(
                    f"GET {self._path} HTTP/1.1\r\nhost: reprise\r\naccept: text/event-stream\r\n{cursor}\r\n".encode()
                )
                await response.over
            finally:
                transport.abort()
        answer.ended_at = loop.time()


class _Response(asyncio.Protocol):
    """One response, from its status line to its end."""

    def __init__(self, source: EventSource, answer: Answer) -> None:
        self._source = source
        self._answer = answer
        self._raw = b""
        self._text = b""
        #: Bytes of a body with a known length that are to come; None for one in chunks.
        self._left: int | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._raw += data
        if not self._answer.status and not self._take_head():
            return
        if self._left is None:
            self._take_chunks()
        else:
            self._text, self._left, self._raw = self._text + self._raw, self._left - len(self._raw), b""
            self._end_at(self._left == 0)
        self._take_blocks()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def _end_at(self, is_end: bool) -> None:
        if is_end and not self.over.done():
            self._answer.is_whole = True
            self.over.set_result(None)

    def _take_head(self) -> bool:
        head, separator, rest = self._raw.partition(b"\r\n\r\n")
        if not separator:
            return False
        found = _STATUS.match(head)
        assert found, head
        self._answer.status, self._raw = int(found[1]), rest
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        is_chunked = re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE)
        if length or self._answer.status == 204:
            self._left = int(length[1]) if length else 0
        elif not is_chunked:
            self._left = -1  # until the connection ends, which then says nothing
        return True

    def _take_chunks(self) -> None:
        while True:
            size, separator, rest = self._raw.partition(b"\r\n")
            length = int(size, 16) if separator else -1
            if length < 0 or len(rest) < length + 2:
                return
            self._text += rest[:length]
            self._raw = rest[length + 2 :]
            if length == 0:
                self._end_at(True)
                return

    def _take_blocks(self) -> None:
        *blocks, self._text = self._text.split(b"\n\n")
        for block in blocks:
            self._take_block(block.decode())

    def _take_block(self, block: str) -> None:
        event_id, event_type, data = None, "message", None
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                event_id = value
            elif name == "event":
                event_type = value
            elif name == "data":
                data = value
            elif name == "retry" and value.isdecimal():
                self._source.retry_seconds = int(value) / 1000
        if event_id is not None:
            self._source.cursor = event_id
        if data is not None:
            self._answer.last_event_at = asyncio.get_running_loop().time()
            self._answer.event_at = self._answer.event_at or self._answer.last_event_at
            self._source.events.append(Received(event_id or "", event_type, None))


@dataclass
class Crowd:
    """All readers, and the asyncio tasks in which they follow."""

    sources: list[EventSource]
    _following: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def until_ended(self, *, timeout: float) -> None:
        """Wait until every reader has been told to come no more."""
        async with asyncio.timeout(timeout):
            await asyncio.gather(*self._following)

    @property
    def answers(self) -> list[Answer]:
        return [answer for source in self.sources for answer in source.answers]

    def pauses(self) -> list[float]:
        """Seconds between the end of each answer and the next event of its reader."""
        return [
            after.event_at - before.ended_at
            for source in self.sources
            for before, after in zip(source.answers, source.answers[1:], strict=False)
            if after.event_at is not None
        ]


@asynccontextmanager
async def following_crowd(port: int, paths: Sequence[str]) -> AsyncGenerator[Crowd]:
    """A reader for each path, all of them following beside the test."""
    crowd = Crowd([EventSource(port, path) for path in paths])
    crowd._following = [asyncio.create_task(each.follow(), name="reader of a crowd") for each in crowd.sources]
    try:
        yield crowd
    finally:
        for task in crowd._following:
            task.cancel()
        await asyncio.gather(*crowd._following, return_exceptions=True)


def histogram(moments: Sequence[float], *, step: float, until: float) -> list[int]:
    """How many moments lie in each step of the time from 0 on; the last one takes what is later."""
    counts = [0] * max(1, round(until / step))
    for moment in moments:
        counts[min(int(moment / step), len(counts) - 1)] += 1
    return counts
