"""Clients: what a browser's EventSource does with the bytes of one stream, and where it is when it comes back.

Bytes are parsed here by the WHATWG rules, not by product code. A client knows nothing of tails and windows; it may be
slow, be cut off with bytes in flight, and come back at another replica with the last id it has seen.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from server.fanout.start import Start
from server.fanout.subscription import Subscription
from server.streams.errors import LogUnavailable, Unknown
from server.streams.ids import parse_event_id
from tests.model.oracle import Id
from tests.model.world import Replica, World


class Frame(NamedTuple):
    """One dispatched event: its id line (None if it had none), type and data."""

    id: str | None
    type: str
    data: str


def parse_frames(text: str) -> list[Frame]:
    """Events of a piece of an event stream; what has no data is dropped, as browsers do."""
    found: list[Frame] = []
    for block in text.split("\n\n"):
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if "data" in fields:
            ids = fields.get("id")
            found.append(
                Frame(ids[-1] if ids else None, fields.get("event", ["message"])[-1], "\n".join(fields["data"]))
            )
    return found


class Client:
    """One reader of the stream. It reports to the oracle all that reaches it."""

    def __init__(self, world: World, name: str, *, all_attempts: bool) -> None:
        self.world = world
        self.name = name
        self.all_attempts = all_attempts
        self.last_id: str | None = None
        #: Whether it has been told that there is no more to come: a terminal event, 204 or 404.
        self.is_done = False
        self.is_stalled = False
        #: Whether the server ended the response, and not the client.
        self._response_ended = False
        self._start = Start()
        #: What was sent and has not arrived; while the client is stalled, with what was in the log when it was sent.
        self._in_flight: list[tuple[str, dict[Id, str] | None]] = []
        self._reading: asyncio.Task[None] | None = None
        self._moving = asyncio.Event()
        self._view = world.oracle.reader(name, all_attempts=all_attempts)

    @property
    def has_begun(self) -> bool:
        return self._view.has_begun

    @property
    def is_connected(self) -> bool:
        return self._reading is not None and not self._reading.done()

    def connect(self, replica: Replica, start: str) -> None:
        """Come for the first time, from the beginning, the end or an id; or come back with the last id seen."""
        if self.is_connected or self.is_done:
            return
        if self.last_id is not None or self._view.has_begun:
            cursor = parse_event_id(self.last_id) if self.last_id else None
            self._start = Start(cursor=cursor, at=self._start.at, all_attempts=self.all_attempts)
        else:
            cursor = parse_event_id(start) if "-" in start else None
            at = "latest" if start == "end" else "earliest"
            self._start = Start(cursor=cursor, at=at, all_attempts=self.all_attempts)
            if cursor:
                self.last_id = start
            self._view.begin(start)
        self._moving.set()
        self.is_stalled = self._response_ended = False
        self._reading = self.world.spawn(self._read(replica, self._start))

    def disconnect(self, keep: int) -> None:
        """Lose the connection; of what was in flight only the first `keep` events arrive."""
        if self._reading and not self._reading.done():
            self._reading.cancel()
        arriving = [(frame, fates) for text, fates in self._in_flight for frame in parse_frames(text)]
        self._in_flight.clear()
        self._take(arriving[:keep])

    def stall(self) -> None:
        """Stop reading: one write fills what lies between, and the server waits."""
        self.is_stalled = True
        self._moving.clear()

    def unstall(self) -> None:
        self.is_stalled = False
        self._moving.set()

    def receive(self) -> None:
        """Take what has arrived."""
        if self.is_done:
            self._in_flight.clear()
        if not self.is_stalled and self._in_flight:
            arriving = [(frame, fates) for text, fates in self._in_flight for frame in parse_frames(text)]
            self._in_flight.clear()
            self._take(arriving)
        if not self.is_done and not self._in_flight and self._response_ended and self._view.last_was_terminal:
            self._end("terminal")

    async def _read(self, replica: Replica, start: Start) -> None:
        self._view.connected()
        try:
            subscription = await replica.hub.subscribe(self.world.stream, start)
        except Unknown:
            self._end("404")
            return
        except LogUnavailable:
            return
        if subscription.is_over:
            subscription.close()
            self._end("204")
            return
        await self._follow(subscription)

    async def _follow(self, subscription: Subscription) -> None:
        blocks = subscription.frames()
        try:
            async for block in blocks:
                fates = self.world.oracle.fates() if self.is_stalled else None
                self._in_flight.append((block.decode(), fates))
                await self._moving.wait()
            self._response_ended = True
        finally:
            with suppress(RuntimeError):  # cancelled between two blocks, the generator is suspended; it ends here
                await blocks.aclose()  # type: ignore[attr-defined]

    def _take(self, arriving: list[tuple[Frame, dict[Id, str] | None]]) -> None:
        for frame, fates in arriving:
            if frame.id is not None:
                self.last_id = frame.id
            if self._view.take(frame, fates):
                self._end("terminal")
                return

    def _end(self, how: str) -> None:
        self.is_done = True
        self._in_flight.clear()
        self._view.ended(how)
