"""One process's live side without HTTP: a hub on a real Redis, and readers that collect what it gives them.

Leaving it checks that nothing stays behind: no subscriber, no watched stream, no channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from httpx_sse import ServerSentEvent

from server.fanout import Hub, HubOptions, Manner, Start, Subscription
from server.streams.connections import connect
from server.streams.doorbell import Doorbells
from server.streams.ids import parse_event_id
from server.streams.keys import Keys
from server.streams.log import Log
from tests.support.frames import decode
from tests.support.log_hand import LIFETIMES
from tests.support.waiting import wait_until


class Reader:
    """A subscriber that takes every block as soon as it is there, until the stream ends or it is told to leave."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.blocks: list[bytes] = []
        #: Decoded block by block, as they came: an event without an id shows none.
        self.events: list[ServerSentEvent] = []
        self._task = asyncio.create_task(self._collect(), name="reader")

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    @property
    def types(self) -> list[str]:
        return [event.event for event in self.events]

    @property
    def ids(self) -> list[str]:
        """Ids of events of the log."""
        return [event.id for event in self.events if event.id and event.event != "position"]

    @property
    def sequences(self) -> list[int]:
        return [parse_event_id(found).sequence for found in self.ids]

    async def until(self, event_type: str, *, count: int = 1, timeout: float = 30.0) -> list[ServerSentEvent]:
        """Wait for the n-th event of this type; return those of it."""

        def found() -> list[ServerSentEvent]:
            return [event for event in self.events if event.event == event_type]

        await wait_until(
            lambda: len(found()) >= count, description=f"{count} × {event_type!r} in {self.types}", timeout=timeout
        )
        return found()

    async def end(self, *, timeout: float = 30.0) -> list[ServerSentEvent]:
        """Wait until the subscription ends by itself; return every event."""
        async with asyncio.timeout(timeout):
            await self._task
        return self.events

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.subscription.close()  # for one that never came to iterate

    async def _collect(self) -> None:
        frames = self.subscription.frames()
        try:
            async for block in frames:
                self.blocks.append(block)
                self.events += decode(block)
        finally:
            await _close(frames)


async def until_seen(readers: list[Reader], last: int) -> None:
    await wait_until(
        lambda: all(reader.sequences[-1:] == [last] for reader in readers),
        description=f"everybody has {last}: {[reader.sequences[-1:] for reader in readers]}",
    )


async def _close(frames: AsyncIterator[bytes]) -> None:
    closing: Any = getattr(frames, "aclose")  # noqa: B009 (an async generator, which its type does not say)
    await closing()


@dataclass
class LiveSide:
    """A hub and its readers."""

    hub: Hub
    log: Log
    bells: Doorbells
    readers: list[Reader] = field(default_factory=list[Reader])

    async def read(self, stream: str, start: Start | None = None, manner: Manner | None = None) -> Reader:
        """Subscribe and read from now on."""
        return self.follow(await self.hub.subscribe(stream, start or Start(), manner or Manner()))

    async def read_all(self, starts: Mapping[str, Start], manner: Manner | None = None) -> Reader:
        """The same for several streams."""
        manner = replace(manner or Manner(), is_composite=True)
        return self.follow(await self.hub.subscribe_all(starts, manner))

    def follow(self, subscription: Subscription) -> Reader:
        reader = Reader(subscription)
        self.readers.append(reader)
        return reader

    async def until_connected(self) -> None:
        await wait_until(lambda: self.bells.is_connected, description="the doorbell is connected")


@asynccontextmanager
async def live_side(
    url: str,
    keys: Keys,
    *,
    sweep_seconds: float = 5.0,
    lease_seconds: float = 0.5,
    socket_timeout: float = 30.0,
    unknown_seconds: float = 0.1,
    **options: Any,
) -> AsyncGenerator[LiveSide]:
    """Run a hub as a server does. Lease and `unknown_seconds` are short: they are how long a loss stays untold."""
    commands = connect(url, name="commands", socket_timeout=socket_timeout)
    listening = connect(url, name="listening", socket_timeout=None)
    log = Log(commands, keys, lifetimes=LIFETIMES, max_events=10_000)
    bells = Doorbells(listening, home=keys.bell("home"))
    times = {"sweep_seconds": sweep_seconds, "lease_seconds": lease_seconds, "unknown_seconds": unknown_seconds}
    hub = Hub(log, bells, options=HubOptions(**times, **options))
    side = LiveSide(hub, log, bells)
    loops = [asyncio.create_task(bells.run(), name="bells"), asyncio.create_task(hub.run(), name="hub")]
    try:
        await side.until_connected()
        yield side
        for reader in side.readers:
            await reader.leave()
        await wait_until(lambda: bells.watched == 0, description="every channel was left")
        assert (hub.subscribers, hub.watched) == (0, 0)
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await commands.aclose()
        await listening.aclose()
