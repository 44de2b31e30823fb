"""Open streams on a real server: settings, deletion, the index; scripts and what is above them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from server.streams import calls
from server.streams.calls import About, Configured, Reply
from server.streams.connections import connect, execute
from server.streams.errors import StreamClosed, Unknown
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId
from server.streams.log import Log
from server.streams.marks import APPEND_FIELD, KEY_FIELD, Mark, continuing, keyed, mark_of
from server.streams.open_streams import OpenStreams
from server.streams.retention import Retention
from server.streams.stream_index import StreamIndex
from tests.support.log_hand import LIFETIMES, Hand, drafts
from tests.support.waiting import wait_until

END = Draft("complete", '{"result":null}')


@pytest.fixture
def streams(hand: Hand) -> OpenStreams:
    log = Log(hand.client, hand.keys, lifetimes=LIFETIMES, max_events=1000)
    return OpenStreams(hand.client, hand.keys, log, lifetimes=LIFETIMES, max_events=1000, max_bytes=0)


async def publish(streams: OpenStreams, *datas: str, stream: str = "chat") -> list[EventId]:
    return await streams.publish(stream, drafts(*datas), token=None)


async def kept(hand: Hand, stream: str = "chat") -> list[str]:
    return [event.data for event in await hand.log(stream)]


async def expiry(hand: Hand, key: str) -> int:
    return await execute(hand.client, "PTTL", key)


# Settings.


async def test_settings_are_given_once_and_told_to_who_asks_for_others(streams: OpenStreams) -> None:
    asked = Retention(5, 60_000)
    assert await streams.create("chat", asked) == Configured("created", asked)
    assert await streams.create("chat", asked) == Configured("same", asked)
    for other in (Retention(), Retention(5), Retention(5, 60_000, "latest"), Retention(6, 60_000)):
        assert await streams.create("chat", other) == Configured("differs", asked)


async def test_a_stream_keeps_exactly_the_events_of_its_own_settings(streams: OpenStreams, hand: Hand) -> None:
    await streams.create("chat", Retention(max_events=3))
    for number in range(10):
        await publish(streams, str(number))
    assert await kept(hand) == ["7", "8", "9"]
    await publish(streams, *"abcde")
    assert await kept(hand) == ["c", "d", "e"]


async def test_of_a_stream_that_keeps_the_latest_only_that_stays_and_its_end_behind_it(
    streams: OpenStreams, hand: Hand
) -> None:
    await streams.create("chat", Retention(keep="latest"))
    await publish(streams, "a")
    await publish(streams, "b", "c")
    assert await kept(hand) == ["c"]
    await streams.close("chat", END)
    assert await kept(hand) == ["c", END.data]


async def test_a_stream_expires_by_its_own_settings_which_outlive_it(streams: OpenStreams, hand: Hand) -> None:
    await streams.create("chat", Retention(ttl_ms=5_000))
    await publish(streams, "a")
    assert 0 < await expiry(hand, hand.keys.log("chat")) <= 5_000
    assert LIFETIMES.live_ms < await expiry(hand, hand.keys.about("chat")) <= LIFETIMES.live_ms + 5_000
    [first] = [event.id for event in await hand.log("chat")]
    await hand.lose(hand.keys.log("chat"))
    await hand.publish("chat", drafts("b"), token="of another process")
    [event] = await hand.log("chat")
    assert event.previous == first, "a reader who had everything would be told a gap"
    assert 0 < await expiry(hand, hand.keys.log("chat")) <= 5_000


async def test_settings_hold_for_every_writer(streams: OpenStreams, hand: Hand) -> None:
    await streams.create("chat", Retention(max_events=2, ttl_ms=5_000))
    await hand.publish("chat", drafts(*"abc"), token="writer", number=1)
    assert await kept(hand) == ["b", "c"]
    assert await expiry(hand, hand.keys.log("chat")) <= 5_000


async def test_a_stream_that_has_events_takes_settings_and_keeps_what_they_say_at_once(
    streams: OpenStreams, hand: Hand
) -> None:
    await publish(streams, *"abcde")
    assert (await streams.create("chat", Retention(2, 5_000))).outcome == "created"
    assert await kept(hand) == ["d", "e"]
    assert await expiry(hand, hand.keys.log("chat")) <= 5_000


async def test_settings_that_a_failover_lost_are_taken_again(streams: OpenStreams, hand: Hand) -> None:
    await streams.create("chat", Retention(2))
    await publish(streams, *"ab")
    await hand.lose(hand.keys.about("chat"))
    assert (await streams.create("chat", Retention(2))).outcome == "created"
    await publish(streams, "c")
    assert await kept(hand) == ["b", "c"]


# The end.


async def test_closing_twice_gives_the_same_end(streams: OpenStreams, hand: Hand) -> None:
    await publish(streams, "a")
    first = await streams.close("chat", END)
    assert await streams.close("chat", Draft("complete", '{"result":2}')) == first
    assert await kept(hand) == ["a", END.data]


async def test_a_stream_that_nobody_wrote_is_closed_all_the_same(streams: OpenStreams, hand: Hand) -> None:
    end = await streams.close("chat", END)
    assert [(event.id, event.previous, event.is_terminal) for event in await hand.log("chat")] == [(end, ORIGIN, True)]


async def test_a_deleted_stream_leaves_a_marker_and_nothing_else(streams: OpenStreams, hand: Hand) -> None:
    await streams.create("chat", Retention(5))
    await publish(streams, "a")
    await streams.delete("chat")
    await streams.delete("chat")
    assert await hand.log("chat") == ()
    snapshot = await Log(hand.client, hand.keys, lifetimes=LIFETIMES, max_events=0).read("chat")
    assert (snapshot.is_deleted, snapshot.last_id) == (True, None)
    assert 0 < await expiry(hand, hand.keys.about("chat")) <= LIFETIMES.retention_ms
    with pytest.raises(Unknown, match="There is no stream 'chat'"):
        await streams.about("chat")


async def test_a_stream_that_never_was_cannot_be_deleted(streams: OpenStreams, hand: Hand) -> None:
    with pytest.raises(Unknown):
        await streams.delete("chat")
    assert await execute(hand.client, "DBSIZE") == 0


async def test_no_writer_brings_a_deleted_stream_back(streams: OpenStreams, hand: Hand) -> None:
    await publish(streams, "a")
    await streams.delete("chat")
    with pytest.raises(StreamClosed, match=r"was deleted.*PUT /streams/chat"):
        await publish(streams, "b")
    with pytest.raises(StreamClosed):
        await streams.close("chat", END)
    assert (await hand.publish("chat", drafts("c"), token="writer", number=1)).outcome == "deleted"
    assert await hand.log("chat") == ()


async def test_a_key_of_a_deleted_stream_is_refused_and_stands_for_nothing_in_the_stream_made_anew(
    streams: OpenStreams, hand: Hand
) -> None:
    [old] = await streams.publish("chat", drafts("a"), token="once")
    await streams.publish("chat", drafts("b"), token="other")
    await streams.delete("chat")
    with pytest.raises(StreamClosed, match="was deleted"):
        await streams.publish("chat", drafts("a"), token="once")
    await streams.create("chat", Retention())
    [new] = await streams.publish("chat", drafts("a"), token="once")
    await streams.publish("chat", drafts("another body"), token="other")
    assert new > old
    assert await kept(hand) == ["a", "another body"]
    assert await streams.publish("chat", drafts("a"), token="once") == [new]


async def test_a_repeated_publish_gets_its_first_ids_after_the_stream_was_closed_too(
    streams: OpenStreams, hand: Hand
) -> None:
    await streams.publish("chat", drafts("old"), token="once")
    await streams.delete("chat")
    await streams.create("chat", Retention())
    first = await streams.publish("chat", drafts("a"), token="once")
    await streams.close("chat", END)
    assert await streams.publish("chat", drafts("a"), token="once") == first
    assert await kept(hand) == ["a", END.data]


async def test_a_writers_batch_that_was_stored_is_not_stored_in_the_stream_made_anew(
    streams: OpenStreams, hand: Hand
) -> None:
    await hand.publish("chat", drafts("a"), token="writer", number=1)
    second = await hand.publish("chat", drafts("b"), token="writer", number=2)
    await streams.delete("chat")
    assert await hand.publish("chat", drafts("b"), token="writer", number=2) == Reply("repeated", second.id)
    assert (await hand.publish("chat", drafts("c"), token="writer", number=3)).outcome == "deleted"
    await streams.create("chat", Retention())
    await hand.publish("chat", drafts("a"), token="writer", number=1)
    assert await hand.publish("chat", drafts("b"), token="writer", number=2) == Reply("repeated", second.id)
    await hand.publish("chat", drafts("c"), token="writer", number=3)
    assert await kept(hand) == ["c"]


async def test_a_deleted_stream_that_is_made_anew_begins_above_the_old_one_without_a_predecessor(
    streams: OpenStreams, hand: Hand
) -> None:
    far = EventId(9_000_000_000_000, 4)
    await hand.publish("chat", drafts("a"), token="1", known=far)
    [old] = await hand.log("chat")
    await streams.delete("chat")
    assert (await streams.create("chat", Retention(5))).outcome == "created"
    await publish(streams, "b")
    [event] = await hand.log("chat")
    assert event.previous == ORIGIN, "new readers would be told a gap"
    assert event.lost is None
    assert event.id.generation > old.id.generation, "ids would be given out twice"


async def test_what_a_publisher_knows_of_the_deleted_stream_says_nothing_of_the_new_one(
    streams: OpenStreams, hand: Hand
) -> None:
    [old] = await publish(streams, "a")
    await streams.delete("chat")
    await streams.create("chat", Retention())
    await hand.publish("chat", drafts("b"), token="1", known=old)
    [event] = await hand.log("chat")
    assert (event.previous, event.lost) == (ORIGIN, None)


async def test_a_stream_with_used_up_ids_can_be_deleted_and_made_anew(streams: OpenStreams, hand: Hand) -> None:
    await execute(hand.client, "XADD", hand.keys.log("chat"), "9999999999999999-0", "e", "x")
    await streams.delete("chat")
    await streams.create("chat", Retention())
    await publish(streams, "a")
    assert await kept(hand) == ["a"]


async def test_the_end_of_a_closed_stream_stands_when_it_is_deleted(streams: OpenStreams, hand: Hand) -> None:
    end = await streams.close("chat", END)
    reply = await hand.run(calls.erase(hand.keys, "chat", END, entropy=1, known=None, lifetimes=LIFETIMES))
    assert reply == Reply("deleted", end)


# Marks.


async def test_marks_are_part_of_what_a_token_stands_for(hand: Hand) -> None:
    [plain] = drafts("1")
    first = await hand.publish("chat", [keyed(plain, "a")], token="1")
    assert await hand.publish("chat", [keyed(plain, "a")], token="1") == Reply("repeated", first.id)
    assert (await hand.publish("chat", [plain], token="1")).outcome == "conflict"
    assert (await hand.publish("chat", [keyed(plain, "b")], token="1")).outcome == "conflict"


async def test_marks_are_stored_with_the_events_that_have_them(hand: Hand) -> None:
    [first, second] = drafts("1", "2")
    events = [first, keyed(second, "a"), continuing("token", "x", max_bytes=100), END]
    await hand.publish("chat", events, token="1", ends=True)
    rows = await execute(hand.client, "XRANGE", hand.keys.log("chat"), "-", "+")
    fields = [entry for _, entry in rows]
    assert [mark_of(each) for each in fields] == [None, Mark(KEY_FIELD, "a"), Mark(APPEND_FIELD, "text"), None]
    assert [b"z" in each for each in fields] == [False, False, False, True]


# The index.


async def names(streams: OpenStreams, prefix: str = "") -> list[str]:
    found, cursor = list[str](), None
    while True:
        page = await streams.index.list(prefix=prefix, limit=2, cursor=cursor)
        assert len(page.streams) <= 2
        found += [each.name for each in page.streams]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_streams_are_listed_by_name_and_prefix_page_by_page(streams: OpenStreams) -> None:
    for name in ("chat.10", "chat.2", "Chat", "chat", "chats", "news", "chat-1"):
        await publish(streams, "a", stream=name)
    assert await names(streams) == ["Chat", "chat", "chat-1", "chat.10", "chat.2", "chats", "news"]
    assert await names(streams, "chat.") == ["chat.10", "chat.2"]
    assert await names(streams, "x") == []


async def test_a_list_forgets_streams_that_are_gone_and_fills_its_pages_all_the_same(
    streams: OpenStreams, hand: Hand
) -> None:
    for number in range(9):
        await publish(streams, "a", stream=f"s{number}")
    await hand.lose(*[hand.keys.log(f"s{number}") for number in (0, 1, 2, 3, 6)])
    page = await streams.index.list(prefix="", limit=2)
    assert ([each.name for each in page.streams], page.next_cursor) == (["s4", "s5"], "s5")
    assert await names(streams) == ["s4", "s5", "s7", "s8"]
    assert await execute(hand.client, "ZCARD", hand.keys.streams_index) == 4


async def test_a_list_that_meets_only_what_is_gone_ends_its_page_after_a_while(
    streams: OpenStreams, hand: Hand
) -> None:
    gone = [word for number in range(2500) for word in ("0", f"gone{number:04}")]
    await execute(hand.client, "ZADD", hand.keys.streams_index, *gone)
    await publish(streams, "a", stream="here")
    first = await streams.index.list(prefix="", limit=1)
    assert (first.streams, first.next_cursor) == ([], "gone1901")
    second = await streams.index.list(prefix="", limit=1, cursor=first.next_cursor)
    assert ([each.name for each in second.streams], second.next_cursor) == (["here"], None)


async def test_a_list_leaves_connections_to_publishers(redis_url: str, hand: Hand) -> None:
    lister = connect(redis_url, name="lister")
    for number in range(64):
        await execute(hand.client, "ZADD", hand.keys.streams_index, 0, f"s{number}")
    await StreamIndex(lister, hand.keys).list(prefix="", limit=64)
    clients: bytes = await execute(hand.client, "CLIENT", "LIST")
    await lister.aclose()
    assert 1 <= clients.count(b" name=lister ") <= 8


async def test_the_walk_forgets_streams_that_nobody_lists(streams: OpenStreams, hand: Hand) -> None:
    for number in range(150):
        await execute(hand.client, "ZADD", hand.keys.streams_index, 0, f"gone{number:03}")
    await publish(streams, "a", stream="here")
    await streams.index.walk()
    assert await execute(hand.client, "ZCARD", hand.keys.streams_index) == 51
    await streams.index.walk()
    assert await execute(hand.client, "ZRANGE", hand.keys.streams_index, 0, -1) == [b"here"]
    await streams.index.walk()
    assert await execute(hand.client, "ZCARD", hand.keys.streams_index) == 1


async def test_the_walk_goes_on_by_itself(streams: OpenStreams, hand: Hand) -> None:
    await execute(hand.client, "ZADD", hand.keys.streams_index, 0, "gone")
    walking = asyncio.create_task(StreamIndex(hand.client, hand.keys, pause_seconds=0.01).run())

    async def is_empty() -> bool:
        return not await execute(hand.client, "EXISTS", hand.keys.streams_index)

    await wait_until(is_empty, description="the name is forgotten")
    walking.cancel()
    await asyncio.gather(walking, return_exceptions=True)


async def test_a_stream_that_begins_while_it_is_being_forgotten_stays_listed(streams: OpenStreams, hand: Hand) -> None:
    await execute(hand.client, "ZADD", hand.keys.streams_index, 0, "chat")

    class Late(StreamIndex):
        """Between its look and what it does about it somebody publishes."""

        async def _about(self, names: Sequence[str]) -> list[About]:
            found = await super()._about(names)
            if not await hand.log("chat"):
                await publish(streams, "a")
            return found

    await Late(hand.client, hand.keys).walk()
    assert await names(streams) == ["chat"]


async def test_a_stream_with_settings_and_no_events_is_listed_and_a_deleted_one_is_not(streams: OpenStreams) -> None:
    await streams.create("empty", Retention())
    await publish(streams, "a", stream="full")
    assert await names(streams) == ["empty", "full"]
    await streams.delete("empty")
    await streams.delete("full")
    assert await names(streams) == []


async def test_a_publish_that_died_before_the_index_is_listed_once_it_is_repeated(
    streams: OpenStreams, hand: Hand
) -> None:
    await hand.publish("chat", drafts("a"), token="once")
    assert await names(streams) == []
    await streams.publish("chat", drafts("a"), token="once")
    assert await names(streams) == ["chat"]


async def test_what_is_told_about_a_stream(streams: OpenStreams, hand: Hand) -> None:
    first, _, last = await publish(streams, "a", "b", "c")
    found = await streams.about("chat")
    assert (found.first_id, found.last_id, found.length, found.is_closed) == (first, last, 3, False)
    assert found.size_bytes
    assert found.expires_ms
    await execute(hand.client, "XTRIM", hand.keys.log("chat"), "MAXLEN", 0)
    found = await streams.about("chat")
    assert (found.first_id, found.last_id, found.length) == (None, last, 0)


async def test_of_a_tasks_stream_the_record_says_whether_it_has_ended(streams: OpenStreams, hand: Hand) -> None:
    record = await hand.running("a")
    assert not (await streams.about("tasks.a")).is_closed
    await hand.finish(record, 1)
    found = await streams.about("tasks.a")
    assert (found.is_closed, found.length) == (True, 2)
    await hand.delete("a")
    with pytest.raises(Unknown):
        await streams.about("tasks.a")
