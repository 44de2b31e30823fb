"""Several streams in one subscription, and filters: composite ids, ends and gaps of each, what a reader is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.fanout import Manner, Start
from server.fanout import subscription as subscriptions
from server.fanout.framed import shown_types
from server.fanout.frames import HEARTBEAT_COMMENT
from server.streams.calls import Snapshot
from server.streams.connections import execute
from server.streams.errors import LogUnavailable, Unknown
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from tests.support.composites import own_of, positions_in, starts
from tests.support.frames import decode
from tests.support.live_side import LiveSide, Reader, live_side
from tests.support.log_hand import Hand, drafts, numbered
from tests.support.waiting import wait_until


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys, lease_seconds=0.3) as found:
        yield found


async def has(reader: Reader, count: int) -> None:
    """Wait until it has so many events of logs."""
    await wait_until(lambda: len(reader.ids) >= count, description=f"{count} events in {reader.types}")


async def test_events_of_all_streams_arrive_each_with_a_position_in_every_stream(hand: Hand, side: LiveSide):
    a = (await hand.publish("a", numbered(0, 1), token="1")).id
    reader = await side.read_all(starts("a", "b", "later"))
    await has(reader, 2)
    b = (await hand.publish("b", numbered(0, 0), token="1")).id
    await has(reader, 3)
    late = (await hand.publish("later", numbered(0, 0), token="1")).id
    await has(reader, 4)
    assert reader.ids == [
        f"a:{a},b:0-0,later:0-0",
        f"a:{a.next()},b:0-0,later:0-0",
        f"b:{b},a:{a.next()},later:0-0",
        f"later:{late},a:{a.next()},b:{b}",
    ]
    assert reader.types == ["t"] * 4


async def test_a_reader_of_nothing_yet_is_told_one_position(hand: Hand, side: LiveSide):
    reader = await side.read_all(starts("a", "b"))
    await reader.until("position")
    await hand.publish("b", drafts("x"), token="1")
    await has(reader, 1)
    assert (reader.events[0].event, reader.events[0].id) == ("position", "a:0-0,b:0-0")
    assert reader.types == ["position", "t"]


async def test_the_first_position_is_of_the_first_stream_whichever_look_finds_nothing_first(
    side: LiveSide, monkeypatch: pytest.MonkeyPatch
):
    ahead, read, told = EventId(2**63, 0), side.log.read, asyncio.Event()
    begin = {stream: Start(cursor=ahead) for stream in ("a", "b")}
    subscription = await side.hub.subscribe_all(begin, Manner(is_composite=True))

    async def read_late(stream: str, **options: Any) -> Snapshot:
        if stream == "a":
            await told.wait()
        return await read(stream, **options)

    monkeypatch.setattr(side.log, "read", read_late)
    [position] = await side.follow(subscription).until("position")
    told.set()
    assert position.id == f"a:{ahead},b:{ahead}"


async def test_a_reader_is_told_no_position_where_any_stream_has_an_event(hand: Hand, side: LiveSide):
    await hand.publish("c", drafts("x"), token="1")
    reader = await side.read_all(starts("a", "b", "c"))
    await has(reader, 1)
    assert reader.types == ["t"]


async def test_every_stream_begins_where_it_would_by_itself(hand: Hand, side: LiveSide):
    for stream in ("system", "chat"):
        await hand.publish(stream, drafts("old"), token="1")
    reader = await side.read_all(starts("system", "chat"))
    await has(reader, 1)
    await hand.publish("system", drafts("new"), token="2")
    await has(reader, 2)
    assert [event.data for event in reader.events] == ["old", "new"]
    [latest] = await (await side.read_all(starts("system", "chat", at="latest"))).until("position")
    assert positions_in(latest.id) == positions_in(reader.ids[-1])


async def test_a_terminal_event_ends_its_own_stream_and_the_last_one_the_response(hand: Hand, side: LiveSide):
    reader = await side.read_all(starts("a", "b"))
    await reader.until("position")
    await hand.publish("a", [Draft("complete", "1")], token="1", ends=True)
    await reader.until("complete")
    await wait_until(lambda: side.hub.watched == 1, description="the ended stream is left")
    assert not reader.has_ended
    await hand.publish("b", numbered(0, 0), token="1")
    await hand.publish("b", [Draft("complete", "2")], token="2", ends=True)
    await reader.end()
    assert [event.data for event in reader.events if event.event == "complete"] == ["1", "2"]
    back = await side.hub.subscribe_all(starts("a", "b", cursors=reader.ids[-1]), Manner(is_composite=True))
    assert back.is_over
    back.close()


async def test_a_reader_that_comes_back_gets_the_rest_of_each_stream(hand: Hand, side: LiveSide):
    for stream in ("a", "b"):
        await hand.publish(stream, numbered(0, 4), token="1")
    await hand.publish("a", [Draft("complete", "1")], token="2", ends=True)
    reader = await side.read_all(starts("a", "b"))
    await has(reader, 11)
    for cursor in reader.ids[:-1]:
        back = await side.read_all(starts("a", "b", cursors=cursor))
        place = reader.ids.index(cursor)
        await has(back, len(reader.ids) - place - 1)
        assert sorted(event.partition(",")[0] for event in back.ids) == sorted(
            event.partition(",")[0] for event in reader.ids[place + 1 :]
        )
        await back.leave()


async def test_a_gap_in_one_stream_is_told_for_it_alone(hand: Hand, side: LiveSide):
    first = (await hand.publish("a", numbered(0, 9), token="1")).id
    b = (await hand.publish("b", numbered(0, 0), token="1")).id
    await execute(hand.client, "XTRIM", hand.keys.log("a"), "MAXLEN", 2)
    reader = await side.read_all({"a": Start(cursor=first), "b": Start(cursor=b)})
    await has(reader, 2)
    gap, position, *_ = reader.events
    assert (gap.event, gap.id) == ("gap", "")
    assert gap.json() == {
        "stream": "a",
        "requested": str(first),
        "resumed_at": str(EventId(first.generation, 8)),
        "missed": 7,
    }
    assert position.event == "position"
    assert position.id == f"a:{EventId(first.generation, 7)},b:{b}"
    assert reader.types == ["gap", "position", "t", "t"]


async def test_a_task_that_nobody_knows_is_refused_by_name(side: LiveSide):
    with pytest.raises(Unknown, match=r"tasks\.nobody"):
        await side.hub.subscribe_all(starts("a", "tasks.nobody"), Manner(is_composite=True))
    await wait_until(lambda: side.hub.watched == 0, description="no stream is watched")


async def test_a_task_that_nobody_knows_any_more_does_not_keep_the_reader_from_the_others(hand: Hand, side: LiveSide):
    begins = {"a": Start(), "tasks.gone": Start(cursor=EventId(7, 3))}
    reader = await side.read_all(begins)
    [gap] = await reader.until("gap")
    assert gap.json() == {"stream": "tasks.gone", "requested": "7-3", "resumed_at": None, "missed": None}
    await hand.publish("a", [Draft("complete", "1")], token="1", ends=True)
    await reader.end()
    assert reader.ids[-1].endswith(",tasks.gone:7-3")
    with pytest.raises(Unknown):
        await side.read_all(starts("a", "tasks.gone", cursors=reader.ids[-1]))


async def test_deleted_and_ended_streams_are_over_from_the_beginning(hand: Hand, side: LiveSide):
    await hand.ended("done")
    await hand.delete("done")
    subscription = await side.hub.subscribe_all(starts("tasks.done"), Manner(is_composite=True))
    assert subscription.is_over
    subscription.close()
    reader = await side.read_all(starts("tasks.done", "a"))
    await reader.until("cancelled")
    await hand.publish("a", drafts("x"), token="1")
    await has(reader, 2)
    assert not reader.has_ended


async def test_a_task_deleted_while_it_is_followed_ends_and_the_others_go_on(hand: Hand, side: LiveSide):
    await hand.create("t")
    reader = await side.read_all(starts("tasks.t", "a"))
    await reader.until("position")
    await hand.settle("t")
    await reader.until("cancelled")
    await hand.delete("t")
    await hand.publish("a", drafts("x"), token="1")
    await reader.until("t")
    assert reader.types == ["position", "cancelled", "t"]


async def test_the_silence_of_a_worker_is_told_for_its_task(hand: Hand, side: LiveSide):
    await hand.running("t", lease_ms=0)
    reader = await side.read_all(starts("a", "tasks.t"))
    [stalled] = await reader.until("stalled")
    assert stalled.json()["stream"] == "tasks.t"


async def test_nothing_is_left_when_one_of_several_streams_cannot_be_opened(
    hand: Hand, side: LiveSide, monkeypatch: pytest.MonkeyPatch
):
    read = side.log.read

    async def fails_for_b(stream: str, **options: object) -> object:
        if stream == "b":
            raise LogUnavailable("no reply")
        return await read(stream, **options)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(side.log, "read", fails_for_b)
        with pytest.raises(LogUnavailable):
            await side.hub.subscribe_all(starts("a", "b", "c"), Manner(is_composite=True))
    assert (side.hub.subscribers, side.hub.watched) == (0, 0)


async def test_a_slow_reader_gets_its_turn_of_each_stream(redis_url: str, keys: Keys, hand: Hand):
    """One that always has more of its first stream must not wait for the end of it to see the second."""
    async with live_side(redis_url, keys, window_bytes=2_000_000) as side:
        first = await side.read_all(starts("a", "b"))
        for number in range(600):
            await hand.publish("ab"[number % 2], [Draft("t", "x" * 2000)], token=str(number))
        await has(first, 600)
        subscription = await side.hub.subscribe_all(starts("a", "b"), Manner(is_composite=True))
        frames = subscription.frames()
        blocks = [decode(await anext(frames)) for _ in range(4)]
        assert [{own_of(event.id)[0] for event in block} for block in blocks] == [{"a"}, {"b"}, {"a"}, {"b"}]
        subscription.close()


async def test_heartbeats_and_age_are_those_of_one_connection(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, heartbeat_seconds=0.2, max_stream_seconds=1) as side:
        reader = await side.read_all(starts(*(f"s{number}" for number in range(20))))
        assert side.hub.subscribers == 1
        await reader.end()
        assert 1 <= reader.blocks.count(HEARTBEAT_COMMENT) <= 6
        assert reader.blocks[-1] == b"retry: 500\n\n"
        assert reader.types == ["position"]


# Filters.


TOKENS = Manner(types=shown_types(["token"]))


async def publish_types(hand: Hand, stream: str, *types: str, token: str) -> EventId:
    return (await hand.publish(stream, [Draft(each, "{}") for each in types], token=token)).id


@pytest.mark.parametrize("count", [1, 2])
async def test_a_filter_shows_its_types_and_those_of_reprise(hand: Hand, side: LiveSide, count: int):
    await publish_types(hand, "a", "log", "token", "log", token="1")
    readers = [await side.read("a", manner=TOKENS) for _ in range(count)]
    for reader in readers:
        await reader.until("token")
    await publish_types(hand, "a", "token", "log", "token", token="2")
    await hand.publish("a", [Draft("error", "{}")], token="3", ends=True)
    for reader in readers:
        await reader.end()
        assert [kind for kind in reader.types if kind != "position"] == ["token", "token", "token", "error"]


async def test_the_end_passes_every_filter(hand: Hand, side: LiveSide):
    await publish_types(hand, "a", "log", token="1")
    await hand.publish("a", [Draft("done", "{}")], token="2", ends=True)
    reader = await side.read("a", manner=TOKENS)
    await reader.end()
    assert reader.types == ["done"]


async def test_a_position_tells_once_what_a_filter_has_left_out(redis_url: str, keys: Keys, hand: Hand):
    async with live_side(redis_url, keys, heartbeat_seconds=1) as side:
        reader = await side.read("a", manner=TOKENS)
        await reader.until("position")
        ids = [await publish_types(hand, "a", "log", token=str(number)) for number in range(20)]
        told = await reader.until("position", count=2)
        assert told[-1].id == str(ids[-1])
        assert reader.types == ["position"] * 2


async def test_a_reader_sent_away_is_told_what_a_filter_has_left_out(hand: Hand, side: LiveSide):
    reader = await side.read("a", manner=TOKENS)
    await reader.until("position")
    last = await publish_types(hand, "a", "log", "log", token="1")
    tail = side.hub._watches["a", False].tail
    await wait_until(lambda: tail.window.top == last.next(), description="both have come")
    reader.subscription.drain()
    await reader.end()
    assert reader.events[-1].id == str(last.next())


async def test_an_event_of_another_stream_tells_what_a_filter_has_left_out(hand: Hand, side: LiveSide):
    reader = await side.read_all(starts("a", "b"), TOKENS)
    await reader.until("position")
    last = await publish_types(hand, "a", "log", "log", token="1")
    tail = side.hub._watches["a", False].tail
    await wait_until(lambda: tail.window.top == last.next(), description="both have come")
    await publish_types(hand, "b", "token", token="1")
    [token] = await reader.until("token")
    assert positions_in(token.id)["a"] == last.next()


async def test_a_long_replay_that_is_left_out_is_told_while_it_lasts(hand: Hand, side: LiveSide):
    for first in range(0, 2000, 500):
        await hand.publish("a", [Draft("log", "{}")] * 500, token=str(first))
    reader = await side.read("a", manner=TOKENS)
    [first_told] = await reader.until("position")
    last = (await hand.read("a")).last_id
    await wait_until(lambda: reader.events[-1].id == str(last), description="the reader knows where the log ends")
    assert EventId(*map(int, first_told.id.split("-"))) > ORIGIN


async def test_a_gap_is_told_whatever_the_filter(hand: Hand, side: LiveSide):
    await hand.publish("a", [Draft("log", "{}")] * 10, token="1")
    await execute(hand.client, "XTRIM", hand.keys.log("a"), "MAXLEN", 2)
    reader = await side.read("a", manner=TOKENS)
    await reader.until("gap")
    assert reader.types[:2] == ["gap", "position"]


async def test_a_page_without_a_wanted_event_does_not_keep_a_filtered_reader_waiting_for_the_next(
    hand: Hand, redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(subscriptions, "_PASSED_OVER_SECONDS", 600.0)
    async with live_side(redis_url, keys, sweep_seconds=600.0, heartbeat_seconds=3600.0, window_bytes=2000) as side:
        for first in (0, 500, 1000):
            await hand.publish("chat", numbered(first, first + 499), token=str(first))
        await hand.publish("chat", [Draft("token", "x")], token="last")
        await has(await side.read("chat"), 1501)
        filtered = await side.read("chat", manner=Manner(types=shown_types(["token"])))
        await has(filtered, 1)
        assert filtered.types == ["position", "token"]
