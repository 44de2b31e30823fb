"""Open streams while everything breaks: whatever is lost on the way, each event is stored, and seen, once."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from server.fanout.continuity import follows
from tests.support.event_reader import data_of, reading, types_of
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import Hand
from tests.support.redis_server import RedisServer
from tests.support.web import serving
from workers import OpenStream, open_stream

PATH = "/streams/chat.42/events"


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer(keeps_data=True) as server:
        yield server


async def test_a_redis_that_is_killed_and_comes_back_costs_writer_and_reader_a_pause(own_redis: RedisServer) -> None:
    async with serving(own_redis.url) as web, open_stream(own_redis.url, "chat.42") as stream:
        await web.until_ready()
        async with reading(web.client, PATH) as reader:
            await reader.next()
            for number in range(100):
                await stream.emit("n", number)
            await stream.flush()
            before = await reader.take(100)
            own_redis.kill()
            for number in range(100, 2000):
                await stream.emit("n", number)
            own_redis.start()
            end = await stream.complete()
            after = await reader.rest()
    assert types_of([*before, *after]) == [*["n"] * 2000, "complete"]
    assert [data_of(event) for event in [*before, *after][:-1]] == list(range(2000))
    assert after[-1].id == end


class Trouble:
    """Faults on the way to Redis, drawn from a seed."""

    def __init__(self, proxy: FaultProxy, seed: int) -> None:
        self._proxy = proxy
        self._random = random.Random(seed)

    def happen(self) -> None:
        kind = self._random.randrange(12)
        if kind == 0:
            self._proxy.lose_reply("publish", skip=self._random.randrange(2))
        elif kind == 1:
            self._proxy.lose_request("publish", skip=self._random.randrange(2))
        elif kind == 2:
            self._proxy.cut()

    async def write(self, stream: OpenStream, writer: int, count: int) -> None:
        for number in range(count):
            self.happen()
            await stream.emit("n", [writer, number])
            if self._random.randrange(3) == 0:
                await stream.flush()
            elif self._random.randrange(3) == 0:
                await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(12))
async def test_however_requests_and_replies_are_lost_each_writers_events_are_stored_once_in_order_without_a_hole(
    redis_url: str, hand: Hand, seed: int
) -> None:
    async with (
        FaultProxy(redis_url) as proxy,
        open_stream(proxy.url, "chat.42") as one,
        open_stream(proxy.url, "chat.42") as other,
    ):
        trouble = Trouble(proxy, seed)
        await asyncio.gather(trouble.write(one, 1, 40), trouble.write(other, 2, 40))
    events = await hand.log("chat.42")
    assert all(follows(earlier.id, later) for earlier, later in pairwise(events))
    pairs = [json.loads(event.data) for event in events]
    for writer in (1, 2):
        assert [number for name, number in pairs if name == writer] == list(range(40))
