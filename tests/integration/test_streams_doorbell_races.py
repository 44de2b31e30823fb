"""Watching, leaving, ringing and losing the connection in any order, on a real server.

What was confirmed rings: each ring once, in order, and to whoever watches now. What was left rings no more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from server.streams.connections import connect
from server.streams.doorbell import Doorbells
from tests.support.waiting import wait_until

CHANNELS = ["a", "b", "c"]
#: Nothing but a `turn` lets the event loop run, and `settle` lets it run until everything is answered.
STEPS = st.one_of(
    st.tuples(st.sampled_from(["watch", "leave", "ring"]), st.sampled_from(CHANNELS)),
    st.tuples(st.just("turn"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["settle", "kill"]), st.none()),
)


@dataclass(eq=False)
class Ear:
    """One listener, from its watch until it is left."""

    ready: asyncio.Future[None] | None = None
    heard: list[int] = field(default_factory=list[int])
    #: Rung while it was confirmed, so that these must be heard.
    due: list[int] = field(default_factory=list[int])
    is_left: bool = False
    heard_after_leaving: list[int] = field(default_factory=list[int])

    def listen(self, payload: bytes) -> None:
        (self.heard_after_leaving if self.is_left else self.heard).append(int(payload))


class Race:
    """One run: doorbells, and what has to be true of them."""

    def __init__(self, url: str, commands: Any) -> None:
        self.commands = commands
        self.client = connect(url, name="bells", socket_timeout=None)
        self.bells = Doorbells(self.client, home="home")
        self.connects = self.kills = self.rung = 0
        self.is_sure = False
        self.ears: dict[str, Ear] = {}
        self.all_ears: list[Ear] = []
        self.bells.on_connect = self.count_connect

    def count_connect(self) -> None:
        self.connects += 1

    async def run(self, steps: list[tuple[str, Any]]) -> None:
        running = asyncio.create_task(self.bells.run())
        try:
            await self.settle(None)
            for name, argument in steps:
                result = getattr(self, name)(argument)
                if result is not None:
                    await result
            await self.settle(None)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self.client.aclose()

    def watch(self, channel: str) -> None:
        if channel not in self.ears:
            ear = self.ears[channel] = Ear()
            ear.ready = self.bells.watch(channel, ear.listen)
            self.all_ears.append(ear)

    def leave(self, channel: str) -> None:
        if ear := self.ears.pop(channel, None):
            self.bells.unwatch(channel)
            assert ear.ready is not None
            assert ear.ready.done()
            ear.is_left = True
            ear.due.clear()

    def ring(self, channel: str) -> None:
        self.rung += 1
        ear = self.ears.get(channel)
        if ear and ear.ready and ear.ready.done() and self.is_sure:
            ear.due.append(self.rung)
        self.commands.execute_command("SPUBLISH", channel, str(self.rung))

    def kill(self, _: None) -> None:
        if self.is_sure:
            self.is_sure = False
            self.kills += 1
            self.commands.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            for ear in self.ears.values():
                ear.due.clear()

    async def turn(self, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    async def settle(self, _: None) -> None:
        await wait_until(lambda: self.connects == self.kills + 1, description="it is connected again")
        self.is_sure = True
        await asyncio.gather(*(ear.ready for ear in self.ears.values() if ear.ready))
        await wait_until(
            lambda: all(set(ear.due) <= set(ear.heard) for ear in self.ears.values()), description="what rang is heard"
        )
        for ear in self.all_ears:
            assert ear.heard == sorted(set(ear.heard))
            assert ear.heard_after_leaving == []
        expected = {b"home", *(channel.encode() for channel in self.ears)}
        await wait_until(
            lambda: set(self.commands.execute_command("PUBSUB", "SHARDCHANNELS")) == expected,
            description="Redis rings where it should",
        )


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the server is the same; each run leaves it empty
)
@example([("watch", "a"), ("turn", 1), ("leave", "a"), ("turn", 1), ("watch", "a"), ("ring", "a"), ("settle", None)])
@example([("watch", "a"), ("kill", None), ("watch", "b"), ("turn", 3), ("leave", "a"), ("settle", None), ("ring", "b")])
@given(st.lists(STEPS, max_size=30))
def test_whatever_the_order_each_ring_is_heard_once_by_whoever_watches(
    redis_url: str, loop_factory: Any, steps: list[tuple[str, Any]]
):
    with Redis.from_url(redis_url) as commands, asyncio.Runner(loop_factory=loop_factory) as runner:  # pyright: ignore[reportUnknownMemberType]
        runner.run(Race(redis_url, commands).run(steps))
