"""`GET /events` and what every event stream takes: several streams in one response, filters, places to begin at."""

from __future__ import annotations

import pytest

from server.streams.connections import execute
from server.streams.cursor import format_composite, parse_composite
from server.streams.event import Draft
from server.streams.ids import ORIGIN, EventId, parse_event_id
from server.streams.keys import Keys
from server.streams.records import Status, rfc3339
from tests.support.composites import positions_in
from tests.support.event_reader import EVENT_STREAM, data_of, reading, types_of
from tests.support.log_hand import Hand, drafts, numbered
from tests.support.open_streams import publish
from tests.support.played_worker import PlayedWorker
from tests.support.web import Web, serving


async def closed(hand: Hand, stream: str, *types: str) -> list[str]:
    """A stream that has ended, and its ids."""
    await hand.publish(stream, [Draft(each, "{}") for each in types], token="1")
    await hand.publish(stream, [Draft("complete", "{}")], token="2", ends=True)
    return [str(event.id) for event in await hand.log(stream)]


async def test_several_streams_arrive_in_one_response_which_ends_with_the_last_of_them(web: Web, hand: Hand) -> None:
    a, b = await closed(hand, "a", "n", "n"), await closed(hand, "b", "n")
    async with reading(web.client, "/events?stream=a&stream=b") as reader:
        events = await reader.rest()
    own = [each.id.partition(",")[0] for each in events]
    assert [each for each in own if each.startswith("a:")] == [f"a:{each}" for each in a]
    assert [each for each in own if each.startswith("b:")] == [f"b:{each}" for each in b]
    assert all(set(positions_in(each.id)) == {"a", "b"} for each in events)
    response = await web.client.get(
        "/events?stream=a&stream=b", headers={**EVENT_STREAM, "last-event-id": events[-1].id}
    )
    assert (response.status_code, response.content) == (204, b"")


async def test_a_reader_that_comes_back_gets_the_rest_of_each_stream(web: Web, hand: Hand) -> None:
    a, b = await closed(hand, "a", "n", "n"), await closed(hand, "b", "n")
    for cursor in (f"a:{a[1]},b:0-0", f"b:0-0,a:{a[1]}"):
        async with reading(web.client, "/events?stream=a&stream=b", headers={"last-event-id": cursor}) as reader:
            events = await reader.rest()
        assert sorted(each.id.partition(",")[0] for each in events) == [f"a:{a[2]}", *(f"b:{each}" for each in b)]
    async with reading(web.client, f"/events?stream=a&stream=b&lastEventId=a:{a[1]}&last=1") as reader:
        events = await reader.rest()
    assert sorted(each.id.partition(",")[0] for each in events) == [f"a:{a[2]}", f"b:{b[1]}"]


async def test_a_stream_named_twice_counts_once(web: Web, hand: Hand) -> None:
    [*_, last] = await closed(hand, "a", "n")
    path = "/events?" + "&".join(["stream=a"] * 40)
    async with reading(web.client, path) as reader:
        assert [each.id for each in await reader.rest()][-1] == f"a:{last}"


async def test_streams_that_do_not_exist_open_and_wait(web: Web, hand: Hand) -> None:
    async with reading(web.client, "/events?stream=a&stream=b") as reader:
        first = await reader.next()
        assert (first.event, first.id) == ("position", "a:0-0,b:0-0")
        b = (await hand.publish("b", drafts("x"), token="1")).id
        assert (await reader.next()).id == f"b:{b},a:0-0"


async def test_tasks_and_news_are_readable_there_as_on_their_own_addresses(
    web: Web, hand: Hand, worker: PlayedWorker
) -> None:
    task_id = (await web.create())["id"]
    async with reading(web.client, f"/events?stream=tasks.{task_id}&stream=tasks&stream=system") as reader:
        first = await reader.next()
        assert first.event == "position"
        assert positions_in(first.id)["tasks"] == (await hand.log("tasks"))[-1].id
        assert positions_in(first.id)["system"] == (await hand.log("system"))[-1].id
        async with worker.run(task_id) as writer:
            last = await writer.finish(Status.COMPLETED, '{"result":null}')
        events = await reader.until("complete")
    assert positions_in(events[-1].id)[f"tasks.{task_id}"] == EventId(*last)
    async with reading(web.client, f"/events?stream=tasks.{task_id}") as reader:
        assert types_of(await reader.rest()) == ["attempt", "complete"]


async def test_an_unknown_task_is_404_by_name(web: Web) -> None:
    response = await web.client.get("/events?stream=a&stream=tasks.nobody", headers=EVENT_STREAM)
    assert response.status_code == 404
    assert "tasks.nobody" in response.json()["detail"]


async def test_a_deleted_task_has_ended_and_the_others_go_on(web: Web, hand: Hand) -> None:
    task_id = (await web.create())["id"]
    await web.client.post(f"/tasks/{task_id}/cancel")
    await web.client.delete(f"/tasks/{task_id}")
    response = await web.client.get(f"/events?stream=tasks.{task_id}", headers=EVENT_STREAM)
    assert response.status_code == 204
    await closed(hand, "a", "n")
    async with reading(web.client, f"/events?stream=tasks.{task_id}&stream=a") as reader:
        assert sorted(types_of(await reader.rest())) == ["cancelled", "complete", "n"]


async def test_a_stream_deleted_while_it_is_followed_ends_with_a_composite_id_and_the_others_go_on(
    web: Web, hand: Hand
) -> None:
    [a] = await publish(web, {"data": 1}, stream="a")
    alone, among = "/events?stream=a", "/events?stream=a&stream=b"
    async with reading(web.client, alone) as only, reading(web.client, among) as reader:
        await only.next()
        await reader.next()
        assert (await web.client.delete("/streams/a")).status_code == 204
        [end] = await only.rest()
        told = await reader.next()
        assert (end.event, end.data) == (told.event, told.data) == ("cancelled", '{"reason":"deleted"}')
        gone = positions_in(told.id)["a"]
        assert (end.id, told.id, gone > parse_event_id(a)) == (f"a:{gone}", f"a:{gone},b:0-0", True)
        [b] = await publish(web, {"data": 2}, stream="b")
        assert (await reader.next()).id == f"b:{b},a:{gone}"
    for cursor in ("", end.id, f"a:{a}", "a:0-0"):
        headers = {**EVENT_STREAM, "last-event-id": cursor}
        assert (await web.client.get(alone, headers=headers)).status_code == 204
    async with reading(web.client, among, headers={"last-event-id": f"a:{a},b:0-0"}) as later:
        assert {(await later.next()).id.partition(",")[0] for _ in range(2)} == {f"a:{gone}", f"b:{b}"}
        last = (await hand.publish("b", [Draft("complete", "{}")], token="end", ends=True)).id
        assert [each.id.partition(",")[0] for each in await later.rest()] == [f"b:{last}"]
    headers = {**EVENT_STREAM, "last-event-id": f"a:{a},b:{last}"}
    assert (await web.client.get(among, headers=headers)).status_code == 204


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "No stream is named"),
        ("stream=", "'' is not a stream name"),
        ("stream=a&stream=", "'' is not a stream name"),
        ("stream=a,b", "'a,b' is not a stream name"),
        ("stream=..", "'..' is not a stream name"),
        ("stream=../a", "is not a stream name"),
        ("stream=a/b", "is not a stream name"),
        ("stream=a%00", "is not a stream name"),
        ("stream=a%0Aid:1", "is not a stream name"),
        ("stream=%C3%A4", "'ä' is not a stream name"),
        ("stream=" + "a" * 129, "is not a stream name"),
        ("&".join(f"stream=s{number}" for number in range(33)), "There are 33 streams. Follow 32 at most"),
        ("&".join(f"stream={'n' * 126}{number}" for number in range(10, 27)), "2176 characters together; 2048"),
        ("stream=a&last_event_id=b:1-1", "'b:1-1' names no stream of this request, which carries a"),
        ("stream=a&last_event_id=a:1-1,b:1-1", "names no stream of this request"),
        ("stream=a&last_event_id=1-1", "'1-1' names no stream of this request"),
        ("stream=a&last_event_id=a:1-1,a:1-2", "names 'a' twice"),
        ("stream=a&last_event_id=a:x", "'x' is not an event id"),
        ("stream=a&last_event_id=a:1-18446744073709551616", "is not an event id"),
        ("stream=a&last_event_id=" + "a" * 5000, "none is longer than 4096"),
    ],
)
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_what_cannot_be_followed_is_400_with_a_sentence(web: Web, query: str, words: str, accept: str) -> None:
    response = await web.client.get(f"/events?{query}", headers={"accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert words in response.json()["detail"]


WRONG = [
    ("last=-1", "'last' is '-1'. Use a number of events from 1 to 999999."),
    ("last=x", "'last' is 'x'"),
    ("last=0", "'last' is '0'"),
    ("last=1e3", "'last' is '1e3'"),
    ("last=٣", "'last' is '٣'"),
    ("from=middle", "'from' is 'middle'. Use earliest or latest"),
    ("since=yesterday", "'since' is 'yesterday'. Use a time with its offset from UTC"),
    ("since=2026-11-26T18:30:00", "'since' is '2026-11-26T18:30:00'"),
    ("since=-1", "'since' is '-1'"),
    ("since=1e9", "'since' is '1e9'"),
    ("since=1000000000000000", "'since' is"),
    ("since=1&last=1", "each name a place to begin at"),
    ("from=latest&since=1", "each name a place to begin at"),
    ("type=", "'' is not an event type"),
    ("type=a b", "'a b' is not an event type"),
    ("type=token&type=a%0Ab", "'a\\nb' is not an event type"),
    ("type=" + "t" * 129, "is not an event type"),
    ("&".join(f"type=t{number}" for number in range(65)), "There are 65 types. Ask for 64 at most"),
    ("attempts=some", "'attempts' is 'some'"),
    ("heartbeat=never", "'heartbeat' is 'never'"),
]


@pytest.mark.parametrize(("query", "words"), WRONG)
@pytest.mark.parametrize("path", ["/streams/a/events?", "/events?stream=a&", "/stream/system?", "/tasks/x/events?"])
async def test_a_parameter_that_cannot_be_read_is_400_with_a_sentence(
    web: Web, path: str, query: str, words: str
) -> None:
    response = await web.client.get(path + query, headers=EVENT_STREAM)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert words in response.json()["detail"]


@pytest.mark.parametrize(
    "name", ["%2E%2E", "%2E%2E%2Fsystem", "a/b", "a%2Fb", "a%00", "a%0A", "%C3%A4", "-a", "a" * 129, ""]
)
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_name_that_no_stream_can_have_is_404(web: Web, name: str, accept: str) -> None:
    response = await web.client.get(f"/streams/{name}/events", headers={"accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def test_the_longest_request_there_may_be_gets_ids_that_fit_a_cursor(web: Web) -> None:
    names = [f"{number:02}" + "n" * 62 for number in range(32)]
    longest = EventId(2**64 - 2, 2**64 - 2)
    cursor = format_composite(names[0], dict.fromkeys(names, longest))
    path = "/events?" + "&".join(f"stream={name}" for name in names)
    async with reading(web.client, path, headers={"last-event-id": cursor}) as reader:
        found = (await reader.next()).id
    # Which stream comes first is chance: that whose log was read first.
    assert (len(found), parse_composite(found, names)) == (len(cursor), dict.fromkeys(names, longest))


# Filters.


async def test_a_filter_shows_its_types_those_of_reprise_and_the_end(web: Web, hand: Hand) -> None:
    await closed(hand, "a", "token", "log", "token", "progress")
    for path in ("/streams/a/events?type=token&type=progress", "/events?stream=a&type=progress&type=token&type=token"):
        async with reading(web.client, path) as reader:
            assert types_of(await reader.rest()) == ["token", "token", "progress", "complete"]


async def test_a_filter_on_a_task_lets_its_attempts_and_its_end_through(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with reading(web.client, f"/tasks/{task_id}/events?type=token") as reader:
        assert (await reader.next()).event == "position"
        async with worker.run(task_id) as writer:
            for each in ("log", "token", "log"):
                await writer.emit(Draft(each, "{}"))
            await writer.finish(Status.COMPLETED, '{"result":null}')
        assert [each for each in types_of(await reader.rest()) if each != "position"] == [
            "attempt",
            "token",
            "complete",
        ]


async def test_a_filtered_reader_does_not_read_again_what_was_left_out(redis_url: str, hand: Hand) -> None:
    async with serving(redis_url, heartbeat_seconds=0.2) as web:
        await web.until_ready()
        async with reading(web.client, "/streams/a/events?type=token") as reader:
            await reader.next()
            last = (await hand.publish("a", [Draft("log", "{}")] * 30, token="1")).id
            told = await reader.next()
        assert (told.event, told.id) == ("position", str(EventId(last.generation, 29)))


# Where to begin.


@pytest.mark.parametrize(
    ("query", "expected"), [("last=2", [8, 9]), ("last=10", list(range(10))), ("last=500", list(range(10)))]
)
@pytest.mark.parametrize("path", ["/streams/a/events?", "/events?stream=a&"])
async def test_last_begins_so_many_events_before_the_end(
    web: Web, hand: Hand, path: str, query: str, expected: list[int]
) -> None:
    await hand.publish("a", numbered(0, 9), token="1")
    async with reading(web.client, path + query) as reader:
        assert [int(each.data) for each in await reader.take(len(expected))] == expected


async def test_last_counts_across_restarts_of_redis(web: Web, hand: Hand) -> None:
    for number in range(4):
        await hand.publish("a", numbered(3 * number, 3 * number + 2), token=str(number))
        await execute(hand.client, "DEBUG", "CHANGE-REPL-ID")
    async with reading(web.client, "/streams/a/events?last=7") as reader:
        events = await reader.take(7)
    assert [int(each.data) for each in events] == [5, 6, 7, 8, 9, 10, 11]


async def test_last_beyond_what_was_trimmed_begins_with_a_gap(web: Web, hand: Hand, keys: Keys) -> None:
    await hand.publish("a", numbered(0, 99), token="1")
    await execute(hand.client, "XTRIM", keys.log("a"), "MAXLEN", 3)
    async with reading(web.client, "/streams/a/events?last=50") as reader:
        gap, position, *events = await reader.take(5)
    assert (gap.event, data_of(gap)["requested"], position.event) == ("gap", None, "position")
    assert [int(each.data) for each in events] == [97, 98, 99]
    async with reading(web.client, "/streams/a/events?last=2") as reader:
        assert [int(each.data) for each in await reader.take(2)] == [98, 99]


async def at(hand: Hand, keys: Keys, stream: str, *times: int) -> list[EventId]:
    """Entries with these times, as a program that uses XADD writes them."""
    ids = [EventId(1_795_343_970_123, number) for number in range(len(times))]
    for event_id, time in zip(ids, times, strict=True):
        await execute(hand.client, "XADD", keys.log(stream), str(event_id), "e", "n", "d", str(time), "t", time)
    await execute(hand.client, "PEXPIRE", keys.log(stream), 60_000)
    return ids


@pytest.mark.parametrize("path", ["/streams/a/events?", "/events?stream=a&"])
async def test_since_begins_with_the_first_event_of_that_time(web: Web, hand: Hand, keys: Keys, path: str) -> None:
    times = [1_795_343_970_000 + 1000 * number for number in (0, 1, 1, 2, 5)]
    await at(hand, keys, "a", *times)
    for since, expected in [
        ("0", times),
        (str(times[1]), times[1:]),
        (str(times[1] + 1), times[3:]),
        (str(rfc3339(str(times[3]))), times[3:]),
        ("2026-11-22T11:39:35%2B01:00", times[4:]),
        ("2026-11-22T11:39:35+01:00", times[4:]),
    ]:
        async with reading(web.client, f"{path}since={since}") as reader:
            assert [int(each.data) for each in await reader.take(len(expected))] == expected


async def test_since_a_time_that_is_to_come_begins_at_the_end(web: Web, hand: Hand, keys: Keys) -> None:
    [only] = await at(hand, keys, "a", 1_795_343_970_000)
    async with reading(web.client, "/streams/a/events?since=1795343970001") as reader:
        first = await reader.next()
    assert (first.event, first.id) == ("position", str(only))
    async with reading(web.client, "/streams/nothing/events?since=1795343970001") as reader:
        assert (await reader.next()).id == str(ORIGIN)


async def test_since_before_what_was_trimmed_begins_with_a_gap(web: Web, hand: Hand, keys: Keys) -> None:
    await at(hand, keys, "a", *range(1000, 1010))
    await execute(hand.client, "XTRIM", keys.log("a"), "MAXLEN", 3)
    async with reading(web.client, "/streams/a/events?since=1002") as reader:
        assert types_of(await reader.take(3)) == ["gap", "position", "n"]
    async with reading(web.client, "/streams/a/events?since=1008") as reader:
        assert types_of(await reader.take(2)) == ["n", "n"]


MILLION = 1_000_000
FILL = """
for i = 0, tonumber(ARGV[1]) - 1 do
  redis.call('XADD', KEYS[1], ARGV[2] .. '-' .. string.format('%.0f', ARGV[3] + i), 'e', 'n', 'd', '{}', 't',
    string.format('%.0f', ARGV[2] + ARGV[3] + i))
end
redis.call('PEXPIRE', KEYS[1], 60000)
"""


async def test_since_on_a_million_events_takes_some_twenty_reads(web: Web, hand: Hand, keys: Keys) -> None:
    generation, step = 1_795_343_970_123, 50_000
    for first in range(0, MILLION, step):
        await execute(hand.client, "EVAL", FILL, 1, keys.log("a"), step, generation, first)
    before = await reads(hand)
    async with reading(web.client, f"/streams/a/events?since={generation + 777_777}") as reader:
        assert (await reader.next()).id == f"{generation}-777777"
        took = await reads(hand) - before
    assert 23 <= took <= 35, "23 for the search; the rest for the page, and for sweeps meanwhile"


async def reads(hand: Hand) -> int:
    found = await execute(hand.client, "INFO", "commandstats")
    return sum(found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("xrange", "xrevrange"))
