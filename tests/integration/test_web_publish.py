"""Publishing over HTTP: what arrives at readers, and what a repeated request does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.streams.connections import AsyncClient, execute
from server.streams.ids import parse_event_id
from server.streams.keys import Keys
from tests.support.event_reader import EVENT_STREAM, reading
from tests.support.fault_proxy import FaultProxy
from tests.support.open_streams import JSON, NDJSON, events, problem, publish
from tests.support.played_worker import PlayedWorker
from tests.support.redis_server import RedisServer
from tests.support.web import Web, serving

PATH = "/streams/chat/events"


async def test_an_event_that_is_published_reaches_readers_with_the_id_that_its_publisher_got(web: Web) -> None:
    async with reading(web.client, PATH) as reader:
        assert (await reader.next()).event == "position"
        [first] = await publish(web, {"type": "note", "data": {"text": "Hello, 你好"}})
        event = await reader.next()
        assert (event.id, event.event, event.data) == (first, "note", '{"text":"Hello, 你好"}')


async def test_a_batch_and_lines_are_stored_in_their_order_with_contiguous_ids(web: Web) -> None:
    batch = await publish(web, [{"type": "n", "data": number} for number in range(1000)])
    lines = "\n".join(json.dumps({"type": "n", "data": number}) for number in range(1000, 1003))
    response = await web.client.post(PATH, content=f"\n{lines}\r\n\n", headers=NDJSON)
    ids = [parse_event_id(each) for each in [*batch, *response.json()["ids"]]]
    assert [each.sequence for each in ids] == list(range(1003))
    assert len({each.generation for each in ids}) == 1
    found = await events(web)
    assert [(event["id"], event["data"]) for event in found] == [(str(each), str(each.sequence)) for each in ids]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"data": {"a": [1, 2.5, None, True]}}, ("message", '{"a":[1,2.5,null,true]}')),
        ({"type": "done"}, ("done", "null")),
        ({"data": None}, ("message", "null")),
        ({"data": "as it stands"}, ("message", "as it stands")),
        ({"data": '"json text"'}, ("message", '"json text"')),
        ({"data": ""}, ("message", "")),
        ({"data": "a\r\nb\rc\nd"}, ("message", "a\nb\nc\nd")),
        ({"data": ["a\r\nb\0"]}, ("message", '["a\\r\\nb\\u0000"]')),
        ({"type": "token", "append": "Hel"}, ("token", '{"text":"Hel"}')),
        ({"type": "price", "data": 7, "key": "gold é"}, ("price", "7")),
    ],
)
async def test_what_readers_get_of_an_event(web: Web, event: dict[str, Any], expected: tuple[str, str]) -> None:
    await publish(web, event)
    [found] = await events(web)
    assert (found["type"], found["data"]) == expected
    if found["data"]:  # a decoder dispatches no event without data
        async with reading(web.client, PATH) as reader:
            seen = await reader.next()
            assert (seen.event, seen.data) == expected


async def test_marks_stand_in_the_entries_and_live_readers_see_nothing_of_them(
    web: Web, client: AsyncClient, keys: Keys
) -> None:
    await publish(web, [{"data": 1, "key": "a"}, {"data": 2}, {"type": "token", "append": "x"}])
    rows = await execute(client, "XRANGE", keys.log("chat"), "-", "+")
    fields = [entry for _, entry in rows]
    assert [(each.get(b"k"), each.get(b"a")) for each in fields] == [(b"a", None), (None, None), (None, b"text")]


async def test_the_same_request_under_the_same_key_gives_the_first_ids_and_stores_nothing(web: Web) -> None:
    body = [{"data": 1}, {"data": 2, "key": "k"}]
    first = await publish(web, body, key="once")
    assert await publish(web, body, key="once") == first
    lines = await web.client.post(
        PATH, content='{"data":1}\n{"data":2,"key":"k"}', headers={**NDJSON, "idempotency-key": "once"}
    )
    assert (lines.status_code, lines.json()["ids"]) == (201, first)
    assert [event["id"] for event in await events(web)] == first


@pytest.mark.parametrize("other", [[{"data": 2}], [{"data": 1}, {"data": 1}], {"data": 1, "key": "k"}, {"append": "1"}])
async def test_the_key_of_another_request_is_refused(web: Web, other: Any) -> None:
    await publish(web, {"data": 1}, key="once")
    response = await web.client.post(PATH, json=other, headers={"idempotency-key": "once"})
    assert "Use a new key" in problem(response, 409)["detail"]
    assert len(await events(web)) == 1


async def test_a_key_counts_for_its_stream_only(web: Web) -> None:
    await publish(web, {"data": 1}, key="once")
    await publish(web, {"data": 2}, key="once", stream="other")
    assert [event["data"] for event in await events(web, "other")] == ["2"]


async def test_a_request_is_repeated_with_its_first_answer_although_the_stream_was_closed_meanwhile(web: Web) -> None:
    first = await publish(web, {"data": 1}, key="once")
    await web.client.post("/streams/chat/close")
    assert await publish(web, {"data": 1}, key="once") == first
    problem(await web.client.post(PATH, json={"data": 2}, headers={"idempotency-key": "twice"}), 409)


async def test_blanks_around_a_header_are_no_part_of_the_key_nor_of_a_cursor(web: Web) -> None:
    first = await publish(web, {"data": 1}, key="once")
    for key in ("once ", "once\t", " \tonce \t"):
        assert await publish(web, {"data": 1}, key=key) == first
    problem(await web.client.post(PATH, json={"data": 1}, headers={"idempotency-key": " \t"}), 400)
    for cursor in (f"{first[0]} ", f"\t{first[0]}\t"):
        async with reading(web.client, PATH, headers={**EVENT_STREAM, "last-event-id": cursor}) as reader:
            assert (await reader.next()).id == first[0]
    async with reading(web.client, PATH, headers={**EVENT_STREAM, "last-event-id": " "}) as reader:
        assert (await reader.next()).data == "1"


async def test_without_redis_the_answer_is_in_doubt_and_the_same_key_settles_it(
    redis_server: RedisServer, worker: PlayedWorker
) -> None:
    async with FaultProxy(redis_server.url) as proxy, serving(proxy.url) as web:
        await web.until_ready()
        stored = proxy.lose_reply("publish")

        def publishing(key: str | None) -> Any:
            headers = {"idempotency-key": key} if key else {}
            return web.client.post(PATH, json={"data": 1}, headers=headers)

        asking = asyncio.create_task(publishing("once"))
        await asyncio.wait_for(stored.wait(), 5)
        proxy.go_down()
        response = await asking
        document = problem(response, 503)
        assert int(response.headers["retry-after"]) >= 1
        assert "Whether the events are stored is not known" in document["detail"]
        assert "code" not in document
        assert "the same Idempotency-Key" in document["detail"]
        assert "may be stored twice" in problem(await publishing(None), 503)["detail"]
        proxy.come_back()
        await web.until_ready()
        ids = await publish(web, {"data": 1}, key="once")
        assert [event["id"] for event in await events(web)] == ids


@pytest.mark.parametrize(
    ("setting", "bad", "good", "code"),
    [("min-replicas-to-write", "1", "0", "NOREPLICAS"), ("maxmemory", "1", "0", "OOM")],
)
async def test_where_redis_refuses_each_try_nothing_is_stored_and_where_a_try_was_lost_that_is_open(
    setting: str, bad: str, good: str, code: str
) -> None:
    headers = {"idempotency-key": "once"}
    with RedisServer() as redis:
        async with FaultProxy(redis.url) as proxy, serving(proxy.url) as web:
            await web.until_ready()
            redis.command("CONFIG", "SET", setting, bad)
            document = problem(await web.client.post(PATH, json={"data": 1}, headers=headers), 503)
            assert document["code"] == "not_stored"
            assert document["detail"].startswith(f"The event log takes nothing at the moment ({code}). Nothing of this")
            proxy.lose_reply("publish")
            document = problem(await web.client.post(PATH, json={"data": 1}, headers=headers), 503)
            assert "code" not in document
            assert "Whether the events are stored is not known" in document["detail"]
            assert await events(web) == []
            redis.command("CONFIG", "SET", setting, good)
            assert len(await publish(web, {"data": 1}, key="once")) == 1


async def test_a_draining_server_still_publishes_and_lets_the_connection_go(web: Web) -> None:
    await web.app.state.drain()
    response = await web.client.post(PATH, json={"data": 1})
    assert (response.status_code, response.headers["connection"]) == (201, "close")


async def test_pages_of_other_origins_may_publish_and_see_refusals(redis_url: str, worker: PlayedWorker) -> None:
    origin = {"origin": "https://pages.example"}
    async with serving(redis_url, allowed_origins=["https://pages.example"]) as web:
        await web.until_ready()
        for body, status in (({"data": 1}, 201), ({}, 422)):
            response = await web.client.post(PATH, json=body, headers=origin)
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == "https://pages.example"
        asked = {**origin, "access-control-request-method": "PUT", "access-control-request-headers": "Idempotency-Key"}
        assert (await web.client.options("/streams/chat", headers=asked)).status_code == 200
        history = await web.client.get("/streams/chat/history", headers=origin)
        assert "Link" in history.headers["access-control-expose-headers"]


async def test_the_events_of_a_stream_are_posted_to_where_they_are_read(web: Web) -> None:
    response = await web.client.put(PATH)
    assert {each.strip() for each in response.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}
    await publish(web, {"data": 1})
    async with reading(web.client, PATH, headers=EVENT_STREAM) as reader:
        assert (await reader.next()).data == "1"


async def test_a_body_may_hold_one_event_of_the_largest_size_whatever_json_makes_of_it(
    redis_url: str, worker: PlayedWorker
) -> None:
    async with serving(redis_url, max_event_bytes=1_000_000) as web:
        await web.until_ready()
        text = b"\\u000a" * 1_000_000
        response = await web.client.post(PATH, content=b'{"data": "%b"}' % text, headers=JSON)
        assert response.status_code == 201
        assert [len(event["data"]) for event in await events(web)] == [1_000_000]
