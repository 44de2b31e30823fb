"""What readers cost Redis: live events without a read, shared looks and pages, and sweeps of what is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from server.fanout import Start
from server.fanout.tail import Tail
from server.streams.calls import Snapshot
from server.streams.connections import execute
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from tests.support.live_side import LiveSide, live_side, until_seen
from tests.support.log_hand import Hand, numbered
from tests.support.waiting import wait_until


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys) as found:
        yield found


async def scripts_run(hand: Hand) -> int:
    """How many scripts Redis has run."""
    found = await execute(hand.client, "INFO", "commandstats")
    return sum(found.get(name, {"calls": 0})["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval"))


async def swept_logs(hand: Hand) -> int:
    """How many logs sweeps have asked for their end."""
    return (await execute(hand.client, "INFO", "commandstats"))["cmdstat_xrange"]["calls"]


class Looks:
    """Reads of the log that go into looks at `chat`, with something done while each is under way."""

    def __init__(
        self, side: LiveSide, monkeypatch: pytest.MonkeyPatch, during: Callable[[int], Awaitable[None]]
    ) -> None:
        """`during` is given the number of the read, from 1."""
        self.count = 0
        self._side = side
        self._read = side.log.read
        self._during = during
        monkeypatch.setattr(side.log, "read", self._slow_read)

    @property
    def tail(self) -> Tail:
        return self._side.hub._watches["chat", False].tail

    async def rung(self, count: int) -> None:
        """Wait until the tail has heard so many rings."""
        await wait_until(lambda: self.tail._rings >= count, description=f"{count} rings came during the look")

    async def _slow_read(self, *args: Any, **options: Any) -> Snapshot:
        self.count += 1
        found = await self._read(*args, **options)
        await self._during(self.count)
        return found


async def test_live_events_reach_any_number_of_readers_without_a_read(hand: Hand, side: LiveSide):
    await hand.publish("chat", numbered(0, 0), token="first")
    readers = [await side.read("chat") for _ in range(50)]
    await until_seen(readers, 0)
    before = await scripts_run(hand)
    for number in range(1, 41):
        await hand.publish("chat", numbered(number, number), token=str(number))
    await until_seen(readers, 40)
    assert await scripts_run(hand) - before == 40
    assert all(reader.sequences == list(range(41)) for reader in readers)


async def test_readers_at_the_same_cursor_share_one_look_at_the_log(hand: Hand, side: LiveSide):
    await hand.publish("chat", numbered(0, 200), token="1")
    before = await scripts_run(hand)
    found = await asyncio.gather(*[side.hub.subscribe("chat", Start()) for _ in range(50)])
    assert await scripts_run(hand) - before <= 2
    for subscription in found:
        subscription.close()


async def test_many_replays_of_one_log_read_each_page_about_once(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, window_bytes=32_768) as side:
        for first in range(0, 1500, 500):
            await hand.publish("chat", numbered(first, first + 499), token=str(first))
        generation = (await hand.read("chat")).last_id
        assert generation
        before = await scripts_run(hand)
        cursors = [EventId(generation.generation, number) for number in range(20)]
        readers = [await side.read("chat", Start(cursor=cursor)) for cursor in cursors]
        await until_seen(readers, 1499)
        for cursor, reader in zip(cursors, readers, strict=True):
            assert reader.sequences == list(range(cursor.sequence + 1, 1500))
        # Each has a first look of its own; from there on there are six pages of 256, which each would read alone.
        assert await scripts_run(hand) - before < 20 + 20 * 6 / 2


async def test_a_stream_that_flows_while_it_is_looked_at_is_caught_up_with_by_one_look(
    hand: Hand, side: LiveSide, monkeypatch: pytest.MonkeyPatch
):
    """What rings during a look is held, so that a stream that never pauses is not read for ever."""
    await hand.publish("chat", numbered(0, 0), token="0")

    async def append_two(number_of_look: int) -> None:
        for number in range(2 * number_of_look - 1, 2 * number_of_look + 1):
            await hand.publish("chat", numbered(number, number), token=str(number))
        await looks.rung(2 * number_of_look)

    looks = Looks(side, monkeypatch, append_two)
    reader = await side.read("chat")
    await until_seen([reader], 2)
    assert (looks.count, reader.sequences) == (1, [0, 1, 2])


async def test_a_stream_that_rings_is_not_swept_and_one_that_falls_silent_is(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, sweep_seconds=60) as side:
        await hand.publish("chat", numbered(0, 0), token="0")
        reader = await side.read("chat")
        await until_seen([reader], 0)
        await hand.publish("chat", numbered(1, 1), token="1")
        await until_seen([reader], 1)

        async def swept() -> int:
            before = await swept_logs(hand)
            await side.hub._sweep()
            return await swept_logs(hand) - before

        assert await swept() == 0
        assert await swept() == 1


async def test_a_newcomer_whose_cursor_the_window_knows_costs_no_read(hand: Hand, side: LiveSide):
    await hand.publish("chat", numbered(0, 0), token="0")
    first = await side.read("chat")
    await until_seen([first], 0)
    before = await scripts_run(hand)
    newcomers = [await side.read("chat", Start(cursor=ORIGIN)) for _ in range(20)]
    await until_seen(newcomers, 0)
    assert await scripts_run(hand) == before


async def test_a_lost_ring_is_found_by_the_sweep_with_one_look_for_all(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, sweep_seconds=0.05) as side:
        first = await hand.publish("chat", numbered(0, 0), token="1")
        readers = [await side.read("chat") for _ in range(30)]
        await until_seen(readers, 0)
        before = await scripts_run(hand)
        for sequence in (1, 2):
            await execute(
                hand.client, "XADD", keys.log("chat"), f"{first.id.generation}-{sequence}", "e", "t", "d", "x"
            )
        await until_seen(readers, 2)
        assert await scripts_run(hand) - before <= 4
        assert all(reader.sequences == [0, 1, 2] for reader in readers)


async def test_an_idle_sweep_reads_no_events(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, sweep_seconds=0.02) as side:
        await hand.publish("chat", numbered(0, 0), token="1")
        reader = await side.read("chat")
        await until_seen([reader], 0)
        before = await scripts_run(hand)
        swept = await swept_logs(hand)

        async def many_sweeps() -> bool:
            return await swept_logs(hand) > swept + 10

        await wait_until(many_sweeps, description="ten sweeps")
        assert await scripts_run(hand) == before


async def test_a_ring_that_overtakes_a_look_leaves_no_hole(hand: Hand, side: LiveSide, monkeypatch: pytest.MonkeyPatch):
    """Rule 4 of the tail: the look began before the ring, so it must be made again."""
    await hand.publish("chat", numbered(0, 0), token="0")

    async def append_once(number_of_look: int) -> None:
        if number_of_look == 1:
            await hand.publish("chat", numbered(1, 2), token="1")
            await looks.rung(1)

    looks = Looks(side, monkeypatch, append_once)
    reader = await side.read("chat")
    await until_seen([reader], 2)
    assert reader.sequences == [0, 1, 2]


async def test_more_rings_than_are_held_cost_one_more_look_and_no_event(
    hand: Hand, side: LiveSide, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.fanout.tail._MAX_HELD", 3)
    await hand.publish("chat", numbered(0, 0), token="0")

    async def append_five(number_of_look: int) -> None:
        if number_of_look == 1:
            for number in range(1, 6):
                await hand.publish("chat", numbered(number, number), token=str(number))
            await looks.rung(5)

    looks = Looks(side, monkeypatch, append_five)
    reader = await side.read("chat")
    await until_seen([reader], 5)
    assert (looks.count, reader.sequences, looks.tail._held) == (2, [0, 1, 2, 3, 4, 5], [])
