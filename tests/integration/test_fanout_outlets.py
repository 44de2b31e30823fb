"""Outlets as a transport is one: they take every block at once, so nobody asks the subscription to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from server.fanout import Manner, Start, Subscription
from server.streams.connections import execute
from server.streams.keys import Keys
from tests.support.frames import decode, sequences
from tests.support.live_side import LiveSide, live_side
from tests.support.log_hand import Hand, drafts
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


@dataclass
class Open:
    """Never full."""

    blocks: list[bytes] = field(default_factory=list[bytes])
    is_finished: bool = False
    unsent_bytes: int = 0

    def write(self, block: bytes) -> bool:
        self.blocks.append(block)
        return True

    def finish(self) -> None:
        self.is_finished = True

    def abort(self) -> None:
        self.is_finished = True

    @property
    def types(self) -> list[str]:
        return [event.event for event in decode(*self.blocks)]


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys, heartbeat_seconds=0.1) as found:
        yield found


async def follow(side: LiveSide) -> tuple[Subscription, Open]:
    outlet = Open()
    subscription = await side.hub.subscribe("chat", Start(), Manner(heartbeat_events=True))
    subscription.attach(outlet)
    return subscription, outlet


async def test_events_reach_an_open_outlet_between_heartbeats(hand: Hand, side: LiveSide):
    subscription, outlet = await follow(side)
    for number in range(20):
        await hand.publish("chat", drafts(str(number)), token=str(number))
        await wait_until(lambda: sequences(*outlet.blocks)[-1:] == [number], description="the event came")  # noqa: B023
    await wait_until(lambda: outlet.types.count("heartbeat") >= 2, description="two heartbeats")
    assert sequences(*outlet.blocks) == list(range(20))
    subscription.close()


async def test_a_reader_whose_looks_fail_goes_on_when_redis_is_back(keys: Keys):
    """A heartbeat that is due at the very moment of a failed look must not be the last that is heard of the reader."""
    with RedisServer() as server:
        async with live_side(server.url, keys, heartbeat_seconds=0.05, socket_timeout=1, sweep_seconds=0.1) as side:
            hand = Hand(side.log._client, keys)
            await hand.publish("chat", drafts("a"), token="1")
            subscription, outlet = await follow(side)
            tail = side.hub._watches["chat", False].tail
            server.pause()
            tail.fall_behind()
            beats = outlet.types.count("heartbeat")
            await wait_until(lambda: outlet.types.count("heartbeat") > beats + 2, description="beats meanwhile")
            server.resume()

            async def is_back() -> bool:
                await side.until_connected()
                return (await execute(side.log._client, "PING")) in {True, b"PONG", "PONG"}

            await wait_until(is_back, description="Redis answers")
            await hand.publish("chat", drafts("b"), token="2")
            await wait_until(lambda: sequences(*outlet.blocks) == [0, 1], description="the next event")
            subscription.close()
            await asyncio.sleep(0)
