"""Readers that come late together and ask for less: one looks at the past for all, and nobody is shown too little."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.fanout import Manner, Start
from server.fanout.framed import shown_types
from server.fanout.pasts import Pasts
from server.fanout.tail import Tail
from server.streams.calls import Snapshot
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from server.streams.marks import keyed
from tests.support.live_side import LiveSide, Reader, live_side
from tests.support.log_hand import Hand
from tests.support.waiting import wait_until

COMPACT = Start(is_compact=True)
TEXT = [f"{number} " for number in range(6000)]


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys, lease_seconds=0.3) as found:
        yield found


class Reads:
    """Counts the reads of a log."""

    def __init__(self, side: LiveSide, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._read = side.log.read
        monkeypatch.setattr(side.log, "read", self._counted)

    async def _counted(self, *args: Any, **options: Any) -> Snapshot:
        self.count += 1
        return await self._read(*args, **options)


async def publish_text(hand: Hand) -> None:
    for first in range(0, len(TEXT), 500):
        pieces = [Draft("token", json.dumps({"text": text})) for text in TEXT[first : first + 500]]
        await hand.publish("chat", pieces, token=str(first))
    await hand.publish("chat", [Draft("complete", "{}")], token="end", ends=True)


async def publish_prices(hand: Hand, first: int, last: int) -> EventId:
    """Of gold; returns the id of the last one."""
    prices = [keyed(Draft("price", str(number)), "gold") for number in range(first, last + 1)]
    reply = await hand.publish("prices", prices, token=f"from {first}")
    return EventId(reply.id.generation, reply.id.sequence + len(prices) - 1)


def tail_of(side: LiveSide, stream: str) -> Tail:
    return side.hub._watches[stream, False].tail


async def read_together(side: LiveSide, count: int) -> list[Reader]:
    opened = await asyncio.gather(*(side.hub.subscribe("chat", COMPACT) for _ in range(count)))
    readers = [side.follow(each) for each in opened]
    for reader in readers:
        await reader.end()
    return readers


async def test_ten_readers_that_come_together_read_the_log_about_as_often_as_one(
    hand: Hand, side: LiveSide, monkeypatch: pytest.MonkeyPatch
):
    await publish_text(hand)
    reads = Reads(side, monkeypatch)
    [alone] = await read_together(side, 1)
    of_one, reads.count = reads.count, 0
    together = await read_together(side, 10)
    assert reads.count < of_one * 2
    for reader in (alone, *together):
        assert "".join(event.json()["text"] for event in reader.events if event.event == "token") == "".join(TEXT)
        assert reader.blocks == alone.blocks


async def test_a_long_past_is_heard_of_before_a_tenth_of_it_has_been_read(hand: Hand, side: LiveSide):
    await publish_text(hand)
    reader = (await read_together(side, 1))[0]
    [first, *_] = [event for event in reader.events if event.event == "token"]
    assert len(first.json()["text"]) < len("".join(TEXT)) / 5


async def test_who_comes_a_moment_later_gets_what_has_come_since_and_no_gap(hand: Hand, side: LiveSide):
    await publish_prices(hand, 1, 9)
    first = await side.read("prices", COMPACT)
    await first.until("price")
    last = await publish_prices(hand, 10, 12)
    second = await side.read("prices", COMPACT)
    for reader in (first, second):
        await wait_until(lambda reader=reader: reader.ids[-1:] == [str(last)], description=f"{last} came")
    assert [event.data for event in first.events] == ["9", "10", "11", "12"]
    # As the first one, or of a past that was looked at anew.
    assert [event.data for event in second.events] in (["9", "10", "11", "12"], ["12"])


async def test_a_past_is_for_those_who_begin_where_it_does_want_its_types_and_come_before_the_log_went_back(
    hand: Hand, side: LiveSide
):
    last = await publish_prices(hand, 1, 9)
    await side.read("prices")
    pasts = Pasts(tail := tail_of(side, "prices"))
    here, there = await asyncio.gather(*(pasts.behind(ORIGIN, types=None) for _ in range(2)))
    assert here is there is not None
    assert await pasts.behind(EventId(last.generation, 1), types=None) is not here
    assert await pasts.behind(ORIGIN, types=Manner(types=shown_types(["price"])).types) is not here
    tail.fall_behind()
    assert await pasts.behind(ORIGIN, types=None) is not here


async def test_a_block_of_the_past_is_read_again_once_the_log_may_have_gone_back(
    hand: Hand, side: LiveSide, monkeypatch: pytest.MonkeyPatch
):
    await publish_text(hand)
    subscription = await side.hub.subscribe("chat", Start(at="earliest"))
    past = await Pasts(tail := tail_of(side, "chat")).behind(ORIGIN, types=None)
    assert past is not None
    begun = past.look(ORIGIN)
    tail.fall_behind()
    assert isinstance(begun, asyncio.Task)
    reads = Reads(side, monkeypatch)
    await begun
    reads.count = 0
    again = past.look(ORIGIN)
    assert again is not begun
    assert isinstance(again, asyncio.Task), "a look that was begun before is kept"
    await again
    assert reads.count
    subscription.close()


async def test_one_that_leaves_takes_the_look_from_nobody_and_the_last_one_ends_it(hand: Hand, side: LiveSide):
    await publish_prices(hand, 1, 9)
    await side.read("prices")
    pasts = Pasts(tail_of(side, "prices"))
    leaving, staying = [asyncio.create_task(pasts.behind(ORIGIN, types=None)) for _ in range(2)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is not None
    alone = asyncio.create_task(pasts.behind(EventId(1, 0), types=None))
    await asyncio.sleep(0)
    alone.cancel()
    coming = asyncio.create_task(pasts.behind(EventId(1, 0), types=None))
    with pytest.raises(asyncio.CancelledError):
        await alone
    assert await coming is not None
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("look at the keys")]


async def test_what_nobody_gets_any_more_is_freed(hand: Hand, side: LiveSide):
    await publish_prices(hand, 1, 9)
    await side.read("prices")
    pasts = Pasts(tail_of(side, "prices"))
    for sequence in range(8):
        await pasts.behind(EventId(1, sequence), types=None)
    assert len(pasts) <= 4

    def is_free() -> bool:
        pasts.expire()
        return len(pasts) == 0

    await wait_until(is_free, description="all were freed")
