"""Readers that come late and ask for less: joined texts, the latest of each key, and nothing lost for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from time import perf_counter

import pytest
from httpx_sse import ServerSentEvent

from server.fanout import Manner, Start
from server.fanout.framed import shown_types
from server.fanout.past import past_behind
from server.streams.connections import execute
from server.streams.event import Draft, Event
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from server.streams.marks import Mark, continuing, keyed
from tests.support.compacted import View, sent
from tests.support.composites import positions_in, starts
from tests.support.frames import decode
from tests.support.live_side import LiveSide, Reader, live_side
from tests.support.log_hand import Hand, drafts
from tests.support.waiting import wait_until

COMPACT = Start(is_compact=True)
END = [Draft("complete", "{}")]


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys, lease_seconds=0.3) as found:
        yield found


def tokens(first: int, last: int) -> list[Draft]:
    return [Draft("token", json.dumps({"text": f"{number} "})) for number in range(first, last + 1)]


def text_in(events: Sequence[ServerSentEvent]) -> str:
    return "".join([event.json()["text"] for event in events if event.event == "token"])


async def publish_all(hand: Hand, stream: str, events: Sequence[Draft], *, ends: bool = True) -> tuple[Event, ...]:
    """As several publishers' batches; returns the log."""
    for first in range(0, len(events), 500):
        await hand.publish(stream, events[first : first + 500], token=f"{stream}{first}")
    if ends:
        await hand.publish(stream, END, token=f"{stream} end", ends=True)
    return await hand.log(stream)


async def until_id(reader: Reader, last: EventId) -> None:
    await wait_until(lambda: reader.ids[-1:] == [str(last)], description=f"{last} behind {reader.ids[-1:]}")


async def test_a_long_text_is_read_late_as_few_events_and_goes_on_live(hand: Hand, side: LiveSide):
    log = await publish_all(hand, "chat", tokens(1, 10_000), ends=False)
    told: list[str] = []
    readers: list[Reader] = []
    for start in (Start(), COMPACT):
        begun = perf_counter()
        readers.append(await side.read("chat", start))
        await until_id(readers[-1], log[-1].id)
        size = sum(map(len, readers[-1].blocks))
        took = (perf_counter() - begun) * 1000
        name = "with compact=true" if start.is_compact else "without"
        told.append(f"{name}: {len(readers[-1].ids)} events, {size} bytes, {took:.0f} ms")
    print(f"\n10,000 tokens joined late, {'; '.join(told)}")  # noqa: T201 - what it is run by hand for
    plain, compact = readers
    assert text_in(compact.events) == text_in(plain.events) == "".join(f"{number} " for number in range(1, 10_001))
    assert len(compact.ids) < 10
    assert "gap" not in compact.types
    await hand.publish("chat", tokens(10_001, 10_002), token="live")
    await wait_until(lambda: len(plain.ids) == 10_002, description="the plain reader has the new ones")
    await until_id(compact, (await hand.log("chat"))[-1].id)
    assert [event.json()["text"] for event in compact.events[-2:]] == ["10001 ", "10002 "]


async def test_of_each_key_the_latest_is_sent_over_many_pages_and_then_every_event(hand: Hand, side: LiveSide):
    prices = [keyed(Draft("price", str(number)), f"metal {number % 5}") for number in range(3000)]
    log = await publish_all(hand, "prices", [Draft("open", "first"), *prices], ends=False)
    reader = await side.read("prices", COMPACT)
    await until_id(reader, log[-1].id)
    assert [event.data for event in reader.events] == ["first", *map(str, range(2995, 3000))]
    await hand.publish(
        "prices", [keyed(Draft("price", "a"), "metal 0"), keyed(Draft("price", "b"), "metal 0")], token="2"
    )
    await wait_until(lambda: len(reader.ids) == 8, description=f"two more in {reader.ids}")
    assert [event.data for event in reader.events[-2:]] == ["a", "b"]


def mixed() -> list[Draft]:
    found: list[Draft] = []
    for number in range(120):
        found += tokens(number * 7, number * 7 + 6)
        found.append(keyed(Draft("price", str(number)), f"metal {number % 3}"))
        found.append(continuing("note", f"{number};", max_bytes=100) if number % 2 else Draft("log", str(number)))
    return found


def marks_in(log: Sequence[Event], events: Sequence[Draft]) -> dict[str, Mark]:
    found = {str(event.id): getattr(draft, "mark", None) for event, draft in zip(log, events, strict=False)}
    return {own: mark for own, mark in found.items() if mark}


@pytest.mark.parametrize("is_compact_again", [True, False], ids=["compacted again", "plain"])
async def test_who_comes_back_with_any_id_inside_continues_exactly(hand: Hand, side: LiveSide, is_compact_again: bool):
    events = mixed()
    log = await publish_all(hand, "chat", events)
    marks = marks_in(log, events)
    whole = View().take(sent(log), marks)
    got = await (await side.read("chat", COMPACT)).end()
    assert View().take(got, marks) == whole
    assert len(got) < len(log) / 3
    for kept in range(0, len(got), 7):
        cursor = EventId(*map(int, got[kept].id.split("-")))
        reader = await side.read("chat", Start(cursor=cursor, is_compact=is_compact_again))
        assert View().take(got[: kept + 1], marks).take(await reader.end(), marks) == whole


async def test_an_id_that_was_sent_without_compaction_goes_on_with_it(hand: Hand, side: LiveSide):
    log = await publish_all(hand, "chat", tokens(0, 1200))
    for place in (0, 1, 255, 256, 700, 1199):
        got = await (await side.read("chat", Start(cursor=log[place].id, is_compact=True))).end()
        assert [event.event for event in got[-2:]] == ["token", "complete"]
        assert len(got) <= 3
        assert text_in(got) == "".join(f"{number} " for number in range(place + 1, 1201))
    [end] = await (await side.read("chat", Start(cursor=log[1200].id, is_compact=True))).end()
    assert end.id == str(log[1201].id)


async def test_what_was_trimmed_is_told_and_the_rest_compacted(hand: Hand, side: LiveSide):
    log = await publish_all(hand, "chat", tokens(0, 900))
    await execute(hand.client, "XTRIM", hand.keys.log("chat"), "MINID", str(log[300].id))
    for cursor in (None, log[10].id):
        got = await (await side.read("chat", Start(cursor=cursor, is_compact=True))).end()
        assert [event.event for event in got] == ["gap", "position", "token", "complete"]
        assert got[0].json()["resumed_at"] == str(log[300].id)
        assert text_in(got) == "".join(f"{number} " for number in range(300, 901))


async def test_attempts_that_were_superseded_stay_away_and_every_attempt_begins_a_text(hand: Hand, side: LiveSide):
    old = await hand.running(lease_ms=0)
    await hand.append(old, 1, [*tokens(1, 3), Draft("checkpoint", "{}"), *tokens(4, 9)])
    await hand.amend(resume_from=f"{old.generation}-4")
    new = await hand.claimed(nonce="n2")
    await hand.append(new, 1, tokens(4, 5), nonce="n2")
    reader = await side.read("tasks.a", COMPACT)
    await until_id(reader, EventId(new.generation, 2))
    assert reader.types == ["attempt", "token", "checkpoint", "attempt", "token"]
    assert reader.ids == [
        *(f"{old.generation}-{sequence}" for sequence in (0, 3, 4)),
        *(f"{new.generation}-{sequence}" for sequence in (0, 2)),
    ]
    assert text_in(reader.events) == "1 2 3 4 5 "
    everything = await side.read("tasks.a", Start(all_attempts=True, is_compact=True))
    await until_id(everything, EventId(new.generation, 2))
    assert text_in(everything.events) == "1 2 3 4 5 6 7 8 9 4 5 "
    assert everything.types == ["attempt", "token", "checkpoint", "token", "attempt", "token"]


async def test_a_reader_of_which_something_was_left_out_for_an_event_that_is_lost_is_told_a_gap(
    hand: Hand, side: LiveSide
):
    log = await publish_all(
        hand, "prices", [keyed(Draft("price", str(number)), "gold") for number in range(9)], ends=False
    )
    subscription = await side.hub.subscribe("prices", COMPACT)
    past = await past_behind(subscription.strands[0].tail, ORIGIN, types=None)
    assert past is not None
    # A failover has lost the last five, and the publisher goes on without knowing of them.
    await execute(hand.client, "DEL", hand.keys.log("prices"))
    for event in log[:4]:
        more = ["k", "gold", *(["p", "0-0"] if event.id.sequence == 0 else [])]
        await execute(hand.client, "XADD", hand.keys.log("prices"), str(event.id), "e", "price", "d", event.data, *more)
    first = await past.looked(ORIGIN)
    assert (first.frames, first.reached(ORIGIN), first.verdict.gap) == ([], log[3].id, None)
    assert not past.is_over(log[3].id, (await past.looked(log[3].id)).verdict.state)
    new = EventId(log[3].id.generation + 5, 0)
    await execute(
        hand.client,
        "XADD",
        hand.keys.log("prices"),
        str(new),
        "e",
        "price",
        "d",
        "new",
        "k",
        "silver",
        "p",
        str(log[3].id),
    )
    await execute(hand.client, "PEXPIRE", hand.keys.log("prices"), 60_000)
    second = await past.looked(log[3].id)
    assert second.verdict.gap is not None
    assert (second.verdict.gap.requested, second.verdict.gap.resumed_at) == (log[3].id, new)
    assert [event.data for event in decode(second.body)] == ["new"]
    subscription.close()


async def test_several_streams_are_compacted_each_by_itself_with_composite_ids(hand: Hand, side: LiveSide):
    a = await publish_all(hand, "a", tokens(0, 700))
    b = await publish_all(hand, "b", [keyed(Draft("price", str(number)), "gold") for number in range(700)])
    begin = {stream: Start(is_compact=True) for stream in starts("a", "b")}
    got = await (await side.read_all(begin)).end()
    assert sorted(event.event for event in got) == ["complete", "complete", "price", "token"]
    assert positions_in(got[-1].id) == {"a": a[-1].id, "b": b[-1].id}
    cursors = positions_in(got[0].id)
    later = {stream: Start(cursor=cursors[stream], is_compact=True) for stream in ("a", "b")}
    rest = await (await side.read_all(later)).end()
    assert sorted(event.event for event in [got[0], *rest]) == ["complete", "complete", "price", "token"]


async def test_a_filter_shows_of_what_is_left_the_types_that_are_wanted(hand: Hand, side: LiveSide):
    log = await publish_all(hand, "chat", [*tokens(0, 600), Draft("log", "x"), *tokens(601, 700), Draft("log", "y")])
    got = await (await side.read("chat", COMPACT, Manner(types=shown_types(["token"])))).end()
    assert [event.event for event in got] == ["token", "token", "complete"]
    assert [got[0].id, got[1].id] == [str(log[600].id), str(log[701].id)]
    assert text_in(got) == "".join(f"{number} " for number in range(701))


async def test_nothing_is_left_out_for_a_later_event_that_a_filter_keeps_away(hand: Hand, side: LiveSide):
    states = [keyed(Draft(kind, data), "a") for kind, data in (("open", "1"), ("open", "2"), ("shut", "3"))]
    await publish_all(hand, "doors", states)
    for kind, datas in (("open", ["2"]), ("shut", ["3"])):
        got = await (await side.read("doors", COMPACT, Manner(types=shown_types([kind])))).end()
        assert [event.data for event in got if event.event == kind] == datas


async def test_a_reader_that_has_all_of_an_ended_stream_or_comes_to_an_empty_one_gets_what_others_get(
    hand: Hand, side: LiveSide
):
    log = await publish_all(hand, "chat", tokens(0, 3))
    over = await side.hub.subscribe("chat", Start(cursor=log[-1].id, is_compact=True))
    assert over.is_over
    over.close()
    reader = await side.read("later", COMPACT)
    await reader.until("position")
    await hand.publish("later", drafts("x"), token="1")
    await reader.until("t")
    latest = await side.read("later", Start(at="latest", is_compact=True))
    assert [event.id for event in await latest.until("position")] == reader.ids
