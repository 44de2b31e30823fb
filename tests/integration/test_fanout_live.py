"""The hub on a real server: live events, late joiners, slow readers and heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.fanout import Manner, Start, Subscription
from server.fanout.frames import HEARTBEAT_COMMENT
from server.streams.connections import connect, execute
from server.streams.errors import Unknown
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.frames import decode, sequences
from tests.support.live_side import LiveSide, Reader, live_side, until_seen
from tests.support.log_hand import Hand, drafts, numbered
from tests.support.waiting import wait_until


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys) as found:
        yield found


async def test_a_reader_gets_every_event_of_a_task_once_and_in_order_up_to_its_end(hand: Hand, side: LiveSide):
    await hand.create()
    reader = await side.read("tasks.a")
    async with hand.writer(await hand.claimed()) as writer:
        for number in range(1, 501):
            await writer.emit(Draft("t", str(number)))
            if number % 50 == 0:
                await writer.flush()
        await writer.finish(Status.COMPLETED, '{"result":1}')
    events = await reader.end()
    assert reader.types == ["position", "attempt", *["t"] * 500, "complete"]
    assert reader.sequences == list(range(502))
    assert [event.data for event in events[2:-1]] == [str(number) for number in range(1, 501)]


async def test_readers_that_join_while_events_flow_miss_and_repeat_nothing(hand: Hand, side: LiveSide):
    async with hand.writer(await hand.running()) as writer:
        readers: list[Reader] = []
        for number in range(1, 1001):
            await writer.emit(Draft("t", str(number)))
            if number % 40 == 0:
                readers.append(await side.read("tasks.a"))
        await writer.finish(Status.COMPLETED, '{"result":1}')
    for reader in readers:
        await reader.end()
        assert reader.sequences == list(range(1002))
        assert "gap" not in reader.types


async def test_a_reader_that_comes_back_with_its_cursor_gets_the_rest(hand: Hand, side: LiveSide):
    record = await hand.running()
    await hand.append(record, 1, numbered(1, 9))
    reader = await side.read("tasks.a", Start(cursor=EventId(record.generation, 5)))
    await until_seen([reader], 9)
    await hand.append(record, 10, numbered(10, 10))
    await until_seen([reader], 10)
    assert reader.sequences == [6, 7, 8, 9, 10]


async def test_a_reader_that_has_everything_of_an_ended_task_is_over_at_once(hand: Hand, side: LiveSide):
    record = await hand.ended()
    found = await side.hub.subscribe("tasks.a", Start(cursor=EventId(record.generation, 1)))
    assert found.is_over
    found.close()
    other = await side.hub.subscribe("tasks.a", Start(cursor=EventId(record.generation, 0)))
    assert not other.is_over
    other.close()


async def test_everybody_who_comes_back_after_the_end_is_over_at_once_also_beside_another(hand: Hand, side: LiveSide):
    record = await hand.ended()
    end = Start(cursor=EventId(record.generation, 1))
    found = [await side.hub.subscribe("tasks.a", end) for _ in range(3)]
    assert [each.is_over for each in found] == [True, True, True]
    for each in found:
        each.close()


async def test_a_task_nobody_knows_is_unknown_and_a_stream_that_does_not_exist_yet_waits(hand: Hand, side: LiveSide):
    with pytest.raises(Unknown, match=r"'tasks\.nobody'"):
        await side.read("tasks.nobody")
    reader = await side.read("chat")
    await reader.until("position")
    await hand.publish("chat", drafts("a"), token="1")
    await reader.until("t")


async def test_a_pending_task_tells_its_position_and_waits(hand: Hand, side: LiveSide):
    await hand.create()
    reader = await side.read("tasks.a")
    [position] = await reader.until("position")
    assert position.id == "0-0"
    await hand.claimed()
    await reader.until("attempt")


async def test_news_of_the_whole_system_start_at_their_end_and_other_streams_at_their_beginning(
    hand: Hand, side: LiveSide
):
    for stream in ("system", "chat"):
        await hand.publish(stream, drafts("old"), token="1")
    system, chat = await side.read("system"), await side.read("chat")
    [position] = await system.until("position")
    assert position.id == str((await hand.read("system")).last_id)
    for stream in ("system", "chat"):
        await hand.publish(stream, drafts("new"), token="2")
    assert [event.data for event in await system.until("t")] == ["new"]
    assert [event.data for event in await chat.until("t", count=2)] == ["old", "new"]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (Start(at="earliest"), [0, 1, 2, 3, 4, 5]),
        (Start(at="latest"), [5]),
        (Start(last=2), [3, 4, 5]),
        (Start(last=5), [0, 1, 2, 3, 4, 5]),
        (Start(last=50), [0, 1, 2, 3, 4, 5]),
        (Start(last=0), [5]),
    ],
)
async def test_a_reader_may_choose_where_to_begin(hand: Hand, side: LiveSide, start: Start, expected: list[int]):
    await hand.publish("chat", numbered(0, 4), token="1")
    reader = await side.read("chat", start)
    await hand.publish("chat", numbered(5, 5), token="2")
    await until_seen([reader], 5)
    assert reader.sequences == expected
    assert "gap" not in reader.types


async def test_ids_name_their_stream_where_they_are_composite(hand: Hand, side: LiveSide):
    first = await hand.publish("chat", drafts("a"), token="1")
    reader = await side.read("chat", Start(), Manner(is_composite=True, announce_position=True))
    await wait_until(lambda: len(reader.events) == 2, description="position and event")
    assert [event.id for event in reader.events] == ["chat:0-0", f"chat:{first.id}"]


# Slow readers.


async def take(subscription: Subscription, frames: AsyncIterator[bytes], until: int) -> list[bytes]:
    """Read as far as this sequence, block by block."""
    blocks: list[bytes] = []
    async with asyncio.timeout(30):
        while sequences(*blocks)[-1:] != [until]:
            blocks.append(await anext(frames))
    return blocks


async def test_a_reader_that_falls_out_of_the_window_goes_on_from_the_log_without_loss(
    redis_url: str, keys: Keys, hand: Hand
):
    async with live_side(redis_url, keys, window_bytes=2_000) as side:
        record = await hand.running()
        slow = await side.hub.subscribe("tasks.a", Start())
        frames = slow.frames()
        got = [await anext(frames)]
        fast = await side.read("tasks.a")
        for first in range(1, 2001, 100):
            await hand.append(record, first, numbered(first, first + 99))
        await until_seen([fast], 2000)
        window = side.hub._watches["tasks.a", False].tail.window
        assert window.after(EventId(record.generation, 0)) is None, "the slow reader is still inside the window"
        got += await take(slow, frames, 2000)
        assert sequences(*got) == fast.sequences == list(range(2001))
        assert sum(map(len, window._frames)) <= 2_000
        slow.close()
        await frames.aclose()  # type: ignore[attr-defined]


async def test_a_reader_that_stops_reading_costs_no_memory_and_holds_up_nobody(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, window_bytes=2_000) as side:
        stuck = [await side.hub.subscribe("chat", Start()) for _ in range(20)]
        iterators = [subscription.frames() for subscription in stuck]
        for frames in iterators:
            await anext(frames)
        fast = await side.read("chat")
        for number in range(300):
            await hand.publish("chat", numbered(number, number), token=str(number))
        await until_seen([fast], 299)
        tail = side.hub._watches["chat", False].tail
        assert (len(tail._looks), len(tail.resting)) == (0, 1)
        for subscription in stuck:
            subscription.close()


# Coming and going.


async def test_the_hub_forgets_a_stream_when_its_last_reader_leaves(hand: Hand, side: LiveSide):
    await hand.create()
    one, two = await side.read("tasks.a"), await side.read("tasks.a")
    other = await side.read("tasks.a", Start(all_attempts=True))
    assert (side.hub.subscribers, side.hub.watched, side.bells.watched) == (3, 1, 1)
    for reader in (one, other):
        await reader.leave()
    assert (side.hub.subscribers, side.hub.watched) == (1, 1)
    await two.leave()
    await wait_until(lambda: side.bells.watched == 0, description="the channel was left")
    assert (side.hub.subscribers, side.hub.watched) == (0, 0)


async def test_a_reader_that_leaves_while_it_subscribes_takes_nothing_from_the_others(hand: Hand, side: LiveSide):
    await hand.create()
    joining = [asyncio.create_task(side.read("tasks.a")) for _ in range(10)]
    await asyncio.wait(joining, timeout=0)
    for each in joining[::2]:
        each.cancel()
    done = await asyncio.gather(*joining, return_exceptions=True)
    readers = [reader for reader in done if isinstance(reader, Reader)]
    assert len(readers) >= 5
    assert side.hub.subscribers == len(readers)
    await hand.claimed()
    await asyncio.gather(*[reader.until("attempt") for reader in readers])


async def test_a_stream_that_is_left_and_joined_again_at_once_still_rings(hand: Hand, side: LiveSide):
    for number in range(20):
        reader = await side.read("chat", Start(at="latest"))
        await reader.leave()
        again = await side.read("chat", Start(at="latest"))
        await hand.publish("chat", drafts(str(number)), token=str(number))
        assert [event.data for event in await again.until("t")] == [str(number)]
        await again.leave()


# Heartbeats and age.


@pytest.mark.parametrize("as_event", [False, True])
async def test_an_idle_connection_gets_heartbeats(redis_url: str, keys: Keys, hand: Hand, as_event: bool):
    async with live_side(redis_url, keys, heartbeat_seconds=0.05) as side:
        reader = await side.read("chat", manner=Manner(heartbeat_events=as_event))
        if as_event:
            await reader.until("heartbeat", count=3)
        else:
            await wait_until(lambda: reader.blocks.count(HEARTBEAT_COMMENT) >= 3, description="three heartbeats")
            assert reader.types == ["position"]


async def test_a_connection_past_its_age_is_told_to_come_back_at_once(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, max_stream_seconds=0.2) as side:
        reader = await side.read("chat")
        await reader.end()
        assert reader.blocks[-1] == b"retry: 500\n\n"


# Without the doorbell, and without Redis.


async def test_events_arrive_by_the_sweep_while_the_doorbell_is_dead(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, sweep_seconds=0.1) as side:
        reader = await side.read("chat")
        await reader.until("position")
        side.bells.unwatch(keys.bell("chat"))  # rings come to nobody
        await hand.publish("chat", numbered(0, 3), token="1")
        await until_seen([reader], 3)
        assert reader.sequences == [0, 1, 2, 3]


async def test_a_reconnected_doorbell_looks_for_what_it_missed(hand: Hand, side: LiveSide):
    reader = await side.read("chat")
    await reader.until("position")
    await execute(hand.client, "CLIENT", "KILL", "TYPE", "pubsub")
    await hand.publish("chat", numbered(0, 3), token="1")
    await until_seen([reader], 3)
    assert reader.sequences == [0, 1, 2, 3]


async def test_a_foreign_writer_without_a_bell_is_late_by_one_sweep_only(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, sweep_seconds=0.1) as side:
        reader = await side.read("chat")
        await reader.until("position")
        for event_id, event_type in (("7-0", "a"), ("7-1", "not a type"), ("8-0", "b")):
            await execute(hand.client, "XADD", keys.log("chat"), event_id, "e", event_type, "d", "x")
        await execute(hand.client, "PEXPIRE", keys.log("chat"), 60_000)
        await wait_until(lambda: len(reader.ids) == 3, description="three events")
    assert (reader.ids, reader.types) == (["7-0", "7-1", "8-0"], ["position", "a", "message", "b"])


async def test_whatever_is_rung_readers_get_what_the_log_holds(hand: Hand, side: LiveSide, keys: Keys, redis_url: str):
    await hand.publish("chat", numbered(0, 0), token="1")
    reader = await side.read("chat")
    await until_seen([reader], 0)
    ringer = connect(redis_url, name="ringer")
    for payload in (
        b"",
        b"\xff" * 100,
        b"1-0 - - 1\nx 1 0 1\ny",
        b"99999999999999-5 - - 1\nx 1 0 1\ny",
        b"0-0 - - 0\n",
    ):
        await execute(ringer, "SPUBLISH", keys.bell("chat"), payload)
    await hand.publish("chat", numbered(1, 1), token="2")
    await until_seen([reader], 1)
    assert reader.sequences == [0, 1]
    assert "gap" not in reader.types
    await ringer.aclose()


async def test_the_first_position_of_an_empty_stream_is_the_origin(side: LiveSide):
    reader = await side.read("chat")
    [position] = await reader.until("position")
    assert decode(*reader.blocks)[0].id == position.id == str(ORIGIN)
