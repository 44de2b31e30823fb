"""What readers are told when Redis lost something: trimmed, deleted, gone back, emptied, away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.fanout import Start
from server.fanout.frames import HEARTBEAT_COMMENT
from server.fanout.looks import Look
from server.fanout.tail import Tail
from server.streams.connections import execute
from server.streams.errors import Unknown
from server.streams.event import Draft
from server.streams.ids import EventId, parse_event_id
from server.streams.keys import Keys
from server.streams.records import Status, TaskRecord
from tests.support.live_side import LiveSide, Reader, live_side, until_seen
from tests.support.log_hand import Hand, drafts, numbered
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

#: Long enough for a look, short enough for a test: how long a loss stays untold.
_LEASE = 0.4


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys, sweep_seconds=0.05, lease_seconds=_LEASE) as found:
        yield found


def gaps(reader: Reader) -> list[Any]:
    return [event.json() for event in reader.events if event.event == "gap"]


async def run_out(hand: Hand) -> None:
    """The worker's lease runs out."""
    await execute(hand.client, "HSET", hand.keys.record("a"), "lease_until", 1)


async def with_events(hand: Hand, last: int) -> TaskRecord:
    record = await hand.running()
    await hand.append(record, 1, numbered(1, last))
    return record


# Trimmed.


async def test_a_reader_whose_next_events_were_trimmed_is_told_how_many_and_goes_on(hand: Hand, side: LiveSide):
    record = await with_events(hand, 20)
    await execute(hand.client, "XTRIM", hand.keys.log("tasks.a"), "MINID", f"{record.generation}-10")
    reader = await side.read("tasks.a", Start(cursor=EventId(record.generation, 4)))
    await until_seen([reader], 20)
    generation = record.generation
    assert gaps(reader) == [
        {"stream": "tasks.a", "requested": f"{generation}-4", "resumed_at": f"{generation}-10", "missed": 5}
    ]
    assert reader.types[:3] == ["gap", "position", "t"]
    assert reader.events[1].id == f"{generation}-9"
    assert reader.sequences == list(range(10, 21))


async def test_a_drop_right_after_a_gap_does_not_repeat_it(hand: Hand, side: LiveSide):
    record = await with_events(hand, 20)
    await execute(hand.client, "XTRIM", hand.keys.log("tasks.a"), "MINID", f"{record.generation}-10")
    first = await side.read("tasks.a", Start(cursor=EventId(record.generation, 4)))
    [position] = await first.until("position")
    again = await side.read("tasks.a", Start(cursor=parse_event_id(position.id)))
    await until_seen([again], 20)
    assert gaps(again) == []
    assert again.sequences == list(range(10, 21))


async def test_a_reader_of_a_trimmed_task_from_the_beginning_is_told_the_attempt_and_the_gap(
    hand: Hand, side: LiveSide
):
    record = await with_events(hand, 20)
    await execute(hand.client, "XTRIM", hand.keys.log("tasks.a"), "MINID", f"{record.generation}-10")
    reader = await side.read("tasks.a")
    await until_seen([reader], 20)
    assert reader.types[:4] == ["attempt", "gap", "position", "t"]
    assert (gaps(reader)[0]["requested"], gaps(reader)[0]["missed"]) == (None, 10)


async def test_a_reader_of_a_trimmed_shared_stream_from_the_beginning_is_told(hand: Hand, side: LiveSide):
    first = await hand.publish("chat", numbered(0, 20), token="1")
    await execute(hand.client, "XTRIM", hand.keys.log("chat"), "MINID", f"{first.id.generation}-10")
    reader = await side.read("chat")
    await until_seen([reader], 20)
    assert [gap["requested"] for gap in gaps(reader)] == [None]


# Gone back, and repaired by a living writer.


async def test_a_log_deleted_in_mid_stream_costs_its_readers_nothing_while_the_writer_lives(hand: Hand, side: LiveSide):
    async with hand.writer(await hand.running()) as writer:
        reader = await side.read("tasks.a")
        for number in range(1, 201):
            await writer.emit(Draft("t", str(number)))
            if number in {50, 120}:
                await writer.flush()
                await hand.lose_log()
        await writer.finish(Status.COMPLETED, "{}")
    await reader.end()
    assert reader.sequences == list(range(202))
    assert gaps(reader) == []


async def test_an_emptied_redis_costs_readers_of_a_running_task_nothing(redis_url: str, keys: Keys, hand: Hand):
    # For a part of the lease nothing is said of a task that is unknown, and so long the writer may take.
    async with (
        live_side(redis_url, keys, sweep_seconds=0.05, lease_seconds=30) as side,
        hand.writer(await hand.running()) as writer,
    ):
        stays = await side.read("tasks.a")
        for number in range(1, 101):
            await writer.emit(Draft("t", str(number)))
        await writer.flush()
        await until_seen([stays], 100)
        await execute(hand.client, "FLUSHALL")
        returning = asyncio.create_task(side.read("tasks.a", Start(cursor=EventId(writer.generation, 60))))
        await writer.emit(Draft("t", "101"))
        comes_back = await returning
        await writer.finish(Status.COMPLETED, "{}")
        await stays.end()
        await comes_back.end()
    assert (stays.sequences, comes_back.sequences) == (list(range(103)), list(range(61, 103)))
    assert gaps(stays) == gaps(comes_back) == []


async def test_a_cursor_ahead_of_the_log_waits_and_continues_after_the_repair(hand: Hand, side: LiveSide):
    async with hand.writer(await hand.running()) as writer:
        for number in range(1, 11):
            await writer.emit(Draft("t", str(number)))
        await writer.flush()
        await hand.lose_log()
        reader = await side.read("tasks.a", Start(cursor=EventId(writer.generation, 10)))
        await reader.until("position")
        assert reader.types == ["position"]
        await writer.emit(Draft("t", "11"))
        await until_seen([reader], 11)
        assert (reader.types, reader.sequences) == (["position", "t"], [11])


async def test_a_future_cursor_waits_until_events_reach_it_and_sees_no_earlier_one(hand: Hand, side: LiveSide):
    record = await with_events(hand, 3)
    reader = await side.read("tasks.a", Start(cursor=EventId(record.generation, 5)))
    await reader.until("position")
    await hand.append(record, 4, numbered(4, 7))
    await until_seen([reader], 7)
    assert reader.sequences == [6, 7]


async def test_the_sweep_finds_a_log_that_went_back_and_the_window_forgets_what_is_lost(hand: Hand, side: LiveSide):
    record = await with_events(hand, 10)
    reader = await side.read("tasks.a")
    await until_seen([reader], 10)
    tail = side.hub._watches["tasks.a", False].tail
    await hand.lose_log()
    await hand.append(record, 0, [Draft("attempt", "{}"), *numbered(1, 5)], mode="repair")
    await wait_until(lambda: tail.window.top != EventId(record.generation, 10), description="the window was cut")
    late = await side.read("tasks.a")
    await until_seen([late], 5)
    await hand.append(record, 6, numbered(6, 12))
    for each in (reader, late):
        await until_seen([each], 12)
        assert each.sequences == list(range(13))
        assert gaps(each) == []


# Lost for good.


async def test_a_log_lost_with_its_worker_is_one_gap_after_the_patience_then_the_new_attempt(
    hand: Hand, side: LiveSide
):
    record = await with_events(hand, 10)
    reader = await side.read("tasks.a", Start(cursor=EventId(record.generation, 10)))
    behind = await side.read("tasks.a", Start(cursor=EventId(record.generation, 4)))
    await until_seen([behind], 10)
    await hand.lose_log()
    await run_out(hand)
    for each in (reader, behind):
        await each.until("gap")
    await hand.claimed(nonce="n2")
    for each in (reader, behind):
        await each.until("attempt")
        assert [gap["requested"] for gap in gaps(each)] == [f"{record.generation}-10"]


async def test_a_worker_that_writes_back_within_the_patience_saves_its_readers_the_gap(
    redis_url: str, keys: Keys, hand: Hand
):
    async with live_side(redis_url, keys, sweep_seconds=0.05, lease_seconds=30) as side:
        record = await with_events(hand, 10)
        reader = await side.read("tasks.a")
        await until_seen([reader], 10)
        saved = await hand.fields()
        await hand.lose_log()
        await hand.lose_record()
        await wait_until(lambda: reader.subscription.is_losing, description="the loss is noticed")
        repaired = [Draft("attempt", "{}"), *numbered(1, 10)]
        assert (await hand.append(record, 0, repaired, mode="repair", values=saved)).outcome == "stored"
        await hand.append(record, 11, numbered(11, 11))
        await until_seen([reader], 11)
        assert reader.sequences == list(range(12))
        assert gaps(reader) == []


async def test_a_task_of_which_nothing_is_left_ends_its_readers_with_one_gap(hand: Hand, side: LiveSide):
    record = await with_events(hand, 3)
    reader = await side.read("tasks.a")
    await until_seen([reader], 3)
    await hand.lose_log()
    await hand.lose_record()
    await reader.end()
    assert gaps(reader) == [
        {"stream": "tasks.a", "requested": f"{record.generation}-3", "resumed_at": None, "missed": None}
    ]
    assert reader.types[-1] == "gap"
    with pytest.raises(Unknown):
        await side.read("tasks.a", Start(cursor=EventId(record.generation, 3)))


async def test_a_reader_that_comes_back_before_the_worker_wrote_a_lost_end_back_is_told_that_end(
    redis_url: str, keys: Keys, hand: Hand, monkeypatch: pytest.MonkeyPatch
):
    looks: list[EventId] = []
    looked = Tail.looked

    async def counted(tail: Tail, cursor: EventId) -> Look:
        looks.append(cursor)
        return await looked(tail, cursor)

    monkeypatch.setattr(Tail, "looked", counted)
    async with live_side(redis_url, keys, lease_seconds=_LEASE, unknown_seconds=60) as side:
        record = await hand.ended()
        saved = await hand.fields()
        await hand.lose_log()
        await hand.lose_record()
        coming = asyncio.create_task(side.read("tasks.a", Start(cursor=EventId(record.generation, 0))))
        await wait_until(lambda: len(looks) > 2, description="it waits for longer than running tasks' workers take")
        written = [Draft("attempt", "{}"), Draft("complete", '{"result":null}')]
        assert (await hand.append(record, 0, written, mode="repair", values=saved)).outcome == "stored"
        reader = await coming
        assert [event.event for event in await reader.end()] == ["complete"]


async def test_an_end_written_after_log_and_worker_were_lost_is_told_with_the_gap(hand: Hand, side: LiveSide):
    record = await with_events(hand, 10)
    await hand.lose_log()
    await run_out(hand)
    await hand.settle()
    reader = await side.read("tasks.a", Start(cursor=EventId(record.generation, 4)))
    await reader.end()
    assert reader.types == ["gap", "position", "cancelled"]
    assert [gap["requested"] for gap in gaps(reader)] == [f"{record.generation}-4"]


async def test_a_shared_log_that_is_lost_is_a_gap_and_goes_on_with_what_comes(hand: Hand, side: LiveSide):
    first = await hand.publish("chat", numbered(0, 5), token="1")
    reader = await side.read("chat")
    await until_seen([reader], 5)
    await hand.lose(hand.keys.log("chat"))
    await reader.until("gap")
    await hand.publish("chat", drafts("new"), token="2", known=EventId(first.id.generation, 5))
    await wait_until(lambda: reader.events[-1].data == "new", description="the new event")


async def test_a_shared_log_that_goes_on_at_once_behind_what_its_readers_have_shows_nothing(hand: Hand, side: LiveSide):
    first = await hand.publish("chat", numbered(0, 5), token="1")
    reader, behind = await side.read("chat"), await side.read("chat", Start(cursor=first.id))
    for each in (reader, behind):
        await until_seen([each], 5)
    await execute(hand.client, "DEBUG", "CHANGE-REPL-ID")
    await hand.publish("chat", drafts("new"), token="2", known=EventId(first.id.generation, 5))
    for each in (reader, behind):
        await wait_until(lambda each=each: each.events[-1].data == "new", description="the new event")
        assert gaps(each) == []


async def test_a_publisher_that_knows_of_a_lost_tail_makes_it_a_gap(hand: Hand, side: LiveSide):
    first = await hand.publish("chat", numbered(0, 5), token="1")
    reader = await side.read("chat")
    await until_seen([reader], 5)
    generation = first.id.generation
    await execute(hand.client, "XTRIM", hand.keys.log("chat"), "MAXLEN", 0)
    await execute(hand.client, "XSETID", hand.keys.log("chat"), f"{generation}-3")
    await hand.publish("chat", drafts("new"), token="2", known=EventId(generation, 5))
    await wait_until(lambda: reader.events[-1].data == "new", description="the new event")
    assert len(gaps(reader)) == 1


# Ended.


async def test_an_ended_task_whose_log_expired_is_a_gap_then_its_end_from_the_record(hand: Hand, side: LiveSide):
    record = await with_events(hand, 8)
    await hand.finish(record, 9)
    await hand.lose_log()
    reader = await side.read("tasks.a", Start(cursor=EventId(record.generation, 4)))
    end = (await reader.end())[-1]
    assert (end.event, end.id, end.data) == ("complete", f"{record.generation}-9", '{"result":1}')
    assert [gap["missed"] for gap in gaps(reader)] == [4]
    close = await side.read("tasks.a", Start(cursor=EventId(record.generation, 8)))
    await close.end()
    assert close.types == ["complete"]
    over = await side.hub.subscribe("tasks.a", Start(cursor=EventId(record.generation, 9)))
    assert over.is_over
    over.close()


async def test_readers_of_a_task_that_is_deleted_get_the_end(hand: Hand, side: LiveSide):
    record = await hand.ended()
    late = await side.hub.subscribe("tasks.a", Start())
    await hand.delete()
    gone = await side.hub.subscribe("tasks.a", Start(cursor=EventId(record.generation, 0)))
    assert gone.is_over
    async with asyncio.timeout(30):
        assert [block async for block in late.frames()]
    gone.close()


# Redis away.


async def test_readers_keep_their_place_and_get_heartbeats_while_redis_is_away():
    keys = Keys()
    with RedisServer(keeps_data=True) as server:
        async with live_side(
            server.url, keys, sweep_seconds=0.05, lease_seconds=5, heartbeat_seconds=0.1, socket_timeout=2
        ) as side:
            hand = Hand(side.log._client, keys)
            record = await with_events(hand, 5)
            reader = await side.read("tasks.a")
            await until_seen([reader], 5)
            server.kill()
            beats = reader.blocks.count(HEARTBEAT_COMMENT)
            await wait_until(
                lambda: reader.blocks.count(HEARTBEAT_COMMENT) > beats + 2, description="heartbeats while Redis is away"
            )
            assert not side.hub.is_live
            server.start()
            await side.until_connected()
            await hand.append(record, 6, numbered(6, 9))
            await until_seen([reader], 9)
            assert reader.sequences == list(range(10))
            assert gaps(reader) == []
            await wait_until(lambda: side.hub.is_live, description="the hub is live again")


async def test_readers_of_a_frozen_redis_go_on_when_it_moves_again():
    keys = Keys()
    with RedisServer() as server:
        async with live_side(server.url, keys, sweep_seconds=0.05, lease_seconds=5, socket_timeout=2) as side:
            hand = Hand(side.log._client, keys)
            async with hand.writer(await hand.running()) as writer:
                reader = await side.read("tasks.a")
                await writer.emit(Draft("t", "1"))
                await until_seen([reader], 1)
                server.pause()
                await writer.emit(Draft("t", "2"))
                done, _ = await asyncio.wait({reader._task}, timeout=0.5)
                assert not done
                server.resume()
                await writer.flush()
                await until_seen([reader], 2)
                assert reader.sequences == [0, 1, 2]
