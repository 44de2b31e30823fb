"""Readers that are sent away: at a stop bit by bit, in an outage, at their age; and who is cut because time is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from server.fanout import Start, farewell
from server.streams.ids import EventId
from server.streams.keys import Keys
from tests.support.live_side import LiveSide, Reader, live_side, until_seen
from tests.support.log_hand import Hand, numbered
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys, drain_seconds=3) as found:
        yield found


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may freeze."""
    with RedisServer() as server:
        yield server
        server.resume()


class Stuck:
    """An outlet whose reader takes nothing."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.is_finished = self.is_aborted = False

    @property
    def unsent_bytes(self) -> int:
        return sum(map(len, self.blocks))

    def write(self, block: bytes) -> bool:
        self.blocks.append(block)
        return False

    def finish(self) -> None:
        self.is_finished = True

    def abort(self) -> None:
        self.is_aborted = True


async def until_positioned(readers: list[Reader]) -> None:
    for reader in readers:
        await reader.until("position")


async def test_ages_are_spread_so_that_those_who_came_together_do_not_leave_together(side: LiveSide):
    readers = [await side.read("chat") for _ in range(20)]
    await until_positioned(readers)
    deadlines = [reader.subscription._deadline for reader in readers]
    assert len(set(deadlines)) == 20
    assert max(deadlines) - min(deadlines) > 0.05 * 1800


async def test_a_drain_ends_every_reader_with_what_it_has_and_a_spread_retry(hand: Hand, side: LiveSide):
    record = await hand.running()
    readers = [await side.read("tasks.a") for _ in range(10)]
    await until_seen(readers, 0)
    await hand.append(record, 1, numbered(1, 20))
    window = side.hub._watches["tasks.a", False].tail.window
    await wait_until(lambda: window.top == EventId(record.generation, 20), description="this process has heard of 20")
    assert await side.hub.drain() == 0
    for reader in readers:
        await reader.end()
        assert reader.sequences == list(range(21))
    retries = [int(reader.blocks[-1].removeprefix(b"retry: ")) for reader in readers]
    assert len(set(retries)) > 1
    assert all(1000 <= retry <= 3000 for retry in retries)
    late = await side.read("tasks.a")
    await late.end()


async def test_a_drain_ends_one_reader_after_the_other_and_those_that_wait_go_on(
    redis_url: str, keys: Keys, hand: Hand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(farewell, "_AT_LEAST_PER_SECOND", 0.01)  # so few would be gone soon, hurried or not
    async with live_side(redis_url, keys, drain_seconds=3600) as side:
        record = await hand.running()
        readers = [await side.read("tasks.a") for _ in range(100)]
        await until_seen(readers, 0)
        is_urgent = False
        draining = asyncio.create_task(side.hub.drain(is_urgent=lambda: is_urgent), name="drain")
        await wait_until(lambda: any(reader.has_ended for reader in readers), description="the first has left")
        assert sum(reader.has_ended for reader in readers) < 50
        await hand.append(record, 1, numbered(1, 3))
        await wait_until(
            lambda: any(reader.sequences[-1:] == [3] for reader in readers), description="who stays gets what comes"
        )
        is_urgent = True
        assert await draining == 0
        for reader in readers:
            await reader.end()


async def test_a_reader_that_takes_nothing_is_cut_at_the_end_of_a_drain(hand: Hand, side: LiveSide):
    await hand.running()
    stuck = Stuck()
    (await side.hub.subscribe("tasks.a", Start())).attach(stuck)
    await wait_until(lambda: stuck.blocks, description="it was sent something")
    assert await side.hub.drain() == 1
    assert (stuck.is_aborted, stuck.is_finished) == (True, False)
    assert side.hub.subscribers == 0


async def test_a_drain_does_not_wait_for_a_redis_that_does_not_answer(own_redis: RedisServer, keys: Keys):
    async with live_side(own_redis.url, keys, drain_seconds=3, socket_timeout=60) as side:
        reader = await side.read("chat")
        await reader.until("position")
        own_redis.pause()
        side.hub._look_everywhere()  # it asks the log now, and is not answered
        await wait_until(lambda: reader.subscription.strands[0].is_busy, description="it looks")
        assert await side.hub.drain() == 0, "it was cut"
        await reader.end()
        assert reader.blocks[-1].startswith(b"retry: ")
        own_redis.resume()


async def test_readers_are_sent_away_when_redis_is_away_for_too_long_and_served_when_it_is_back(
    own_redis: RedisServer, keys: Keys
):
    async with live_side(own_redis.url, keys, sweep_seconds=0.1, outage_seconds=2, socket_timeout=1) as side:
        readers = [await side.read("chat") for _ in range(5)]
        await until_positioned(readers)
        own_redis.pause()
        for reader in readers:
            await reader.end()
            assert reader.blocks[-1].startswith(b"retry: ")
        assert side.hub.is_cut_off
        own_redis.resume()
        await wait_until(lambda: not side.hub.is_cut_off, description="the sweep has answers again")
        await side.until_connected()
        again = await side.read("chat")
        await again.until("position")
        await wait_until(lambda: side.hub.is_live, description="it is live again")
        assert not again.has_ended


async def test_readers_stay_while_redis_is_away_for_a_moment(
    own_redis: RedisServer, keys: Keys, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG", logger="server.fanout.hub")
    async with live_side(own_redis.url, keys, sweep_seconds=0.1, outage_seconds=3600, socket_timeout=1) as side:
        reader = await side.read("chat")
        await reader.until("position")
        own_redis.pause()
        await wait_until(lambda: "cannot be looked at" in caplog.text, description="Redis was missed")
        swept_at = side.hub._swept_at
        own_redis.resume()
        await wait_until(lambda: side.hub._swept_at > swept_at, description="the sweep has answers again")
        assert not reader.has_ended
