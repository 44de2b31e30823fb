"""Streams as a whole over HTTP: made, looked at, closed, deleted, listed; and what readers see of it."""

from __future__ import annotations

import asyncio
from typing import Any

from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from tests.support.event_reader import EVENT_STREAM, EventReader, reading
from tests.support.open_streams import events, problem, publish
from tests.support.played_worker import PlayedWorker
from tests.support.waiting import wait_until
from tests.support.web import Web, serving

PATH = "/streams/chat"
FOLLOWED = f"{PATH}/events"


async def told(reader: EventReader) -> list[tuple[str, str]]:
    """Types and data of everything up to the end."""
    return [(event.event, event.data) for event in await reader.rest()]


async def status_of_reader(web: Web, cursor: str = "") -> int:
    headers = {**EVENT_STREAM, "last-event-id": cursor}
    async with web.client.stream("GET", FOLLOWED, headers=headers) as response:
        return response.status_code


async def test_a_stream_is_made_with_settings_once(web: Web) -> None:
    body = {"max_events": 5, "ttl_seconds": 3600}
    created = await web.client.put(PATH, json=body)
    assert (created.status_code, created.headers["location"]) == (201, PATH)
    assert created.json() == {
        "name": "chat",
        "first_id": None,
        "last_id": None,
        "length": 0,
        "bytes": None,
        "closed": False,
        "expires_in_seconds": None,
        "retention": {"max_events": 5, "max_bytes": 67_108_864, "ttl_seconds": 3600, "keep": "all"},
        "events_url": FOLLOWED,
    }
    again = await web.client.put(PATH, json=body)
    assert (again.status_code, again.json()) == (200, created.json())
    detail = problem(await web.client.put(PATH, json={"keep": "latest"}), 409)["detail"]
    assert "max_events 5, ttl_seconds 3600, keep 'all'" in detail


async def test_a_number_of_events_is_whole_however_it_is_written(web: Web) -> None:
    created = await web.client.put(PATH, content=b'{"max_events": 5.0}', headers={"content-type": "application/json"})
    assert (created.status_code, created.json()["retention"]["max_events"]) == (201, 5)
    assert (await web.client.put(PATH, json={"max_events": 5})).status_code == 200


async def test_what_is_not_said_is_what_the_installation_does(redis_url: str, worker: PlayedWorker) -> None:
    async with serving(redis_url, max_stream_events=177, retention_seconds=99) as web:
        await web.until_ready()
        usual = {"max_events": 177, "max_bytes": 67_108_864, "ttl_seconds": 99, "keep": "all"}
        assert (await web.client.put(PATH)).json()["retention"] == usual
        await publish(web, {"data": 1}, stream="other")
        assert (await web.client.get("/streams/other")).json()["retention"] == usual
        latest = await web.client.put("/streams/state", json={"keep": "latest", "ttl_seconds": 1.001})
        assert latest.json()["retention"] == {**usual, "max_events": 1, "ttl_seconds": 1.001, "keep": "latest"}


async def test_a_stream_tells_its_bounds(web: Web) -> None:
    ids = await publish(web, [{"data": 1}, {"data": 2}, {"data": 3}])
    found = (await web.client.get(PATH)).json()
    assert (found["first_id"], found["last_id"], found["length"], found["closed"]) == (ids[0], ids[-1], 3, False)
    assert found["bytes"] > 0
    assert 86_000 < found["expires_in_seconds"] <= 86_400
    end = (await web.client.post(f"{PATH}/close")).json()["id"]
    found = (await web.client.get(PATH)).json()
    assert (found["last_id"], found["length"], found["closed"]) == (end, 4, True)
    assert (await web.client.head(PATH)).status_code == 200


async def test_a_stream_that_nobody_wrote_is_unknown_and_opens_and_waits_for_readers(web: Web) -> None:
    assert "There is no stream 'chat'" in problem(await web.client.get(PATH), 404)["detail"]
    assert await status_of_reader(web) == 200
    assert await events(web) == []


async def test_reprises_own_streams_can_be_looked_at_by_all(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with worker.run(task_id):
        found = (await web.client.get(f"/streams/tasks.{task_id}")).json()
        assert (found["length"], found["closed"]) == (1, False)
    assert (await web.client.get("/streams/system")).json()["length"] > 0
    problem(await web.client.get("/streams/tasks.nobody"), 404)


async def test_closing_ends_every_reader_and_is_the_same_for_who_closes_again(web: Web) -> None:
    [first] = await publish(web, {"data": 1})
    async with reading(web.client, FOLLOWED) as reader, reading(web.client, FOLLOWED) as other:
        await reader.next()
        await other.next()
        closed = await web.client.post(f"{PATH}/close", json={"result": {"sum": 7}})
        assert closed.status_code == 200
        for each in (reader, other):
            [end] = await each.rest()
            assert (end.event, end.data, end.id) == ("complete", '{"result":{"sum":7}}', closed.json()["id"])
    again = await web.client.post(f"{PATH}/close", json={"result": "another"})
    assert (again.status_code, again.json()) == (200, closed.json())
    assert await status_of_reader(web, closed.json()["id"]) == 204
    async with reading(web.client, FOLLOWED, headers={"last-event-id": first}) as late:
        assert await told(late) == [("complete", '{"result":{"sum":7}}')]


async def test_deleting_a_stream_that_is_followed_ends_its_readers_and_late_ones_get_204(web: Web) -> None:
    ids = await publish(web, [{"data": 1}, {"data": 2}])
    async with reading(web.client, FOLLOWED) as reader, reading(web.client, f"{FOLLOWED}?from=latest") as other:
        await reader.take(2)
        await other.next()
        assert (await web.client.delete(PATH)).status_code == 204
        assert await told(reader) == [("cancelled", '{"reason":"deleted"}')]
        assert await told(other) == [("cancelled", '{"reason":"deleted"}')]
    for cursor in ("", "0-0", ids[0], ids[1], f"{2**60}-0"):
        assert await status_of_reader(web, cursor) == 204
    problem(await web.client.get(PATH), 404)
    problem(await web.client.get(f"{PATH}/history"), 404)
    assert (await web.client.delete(PATH)).status_code == 204
    problem(await web.client.delete("/streams/never"), 404)


async def test_a_reader_that_misses_the_ring_of_a_deletion_is_told_by_the_next_sweep(
    web: Web, client: AsyncClient, keys: Keys
) -> None:
    await publish(web, {"data": 1})
    async with reading(web.client, FOLLOWED) as reader:
        await reader.next()
        await execute(client, "DEL", keys.log("chat"))
        await execute(client, "HSET", keys.about("chat"), "deleted", "1", "last_id", "9-9")
        await execute(client, "PEXPIRE", keys.about("chat"), 60_000)
        [end] = await reader.rest()
        assert (end.event, end.data, end.id) == ("cancelled", '{"reason":"deleted"}', "9-9")


async def test_a_deleted_stream_takes_events_again_only_once_it_is_made_anew(web: Web) -> None:
    [old] = await publish(web, {"data": "old"})
    await web.client.delete(PATH)
    detail = problem(await web.client.post(FOLLOWED, json={"data": 1}), 409)["detail"]
    assert "was deleted" in detail
    assert "PUT /streams/chat" in detail
    assert "was deleted" in problem(await web.client.post(f"{PATH}/close"), 409)["detail"]
    assert (await web.client.put(PATH, json={"keep": "latest"})).status_code == 201
    [new] = await publish(web, {"data": "new"})
    async with reading(web.client, FOLLOWED) as reader:
        event = await reader.next()
        assert (event.id, event.data) == (new, "new")
    async with reading(web.client, FOLLOWED, headers={"last-event-id": old}) as behind:
        assert [event.event for event in await behind.take(3)] == ["gap", "position", "message"]


async def test_a_reader_of_a_stream_that_keeps_the_latest_begins_with_it_and_is_told_what_is_gone(web: Web) -> None:
    await web.client.put(PATH, json={"keep": "latest"})
    await publish(web, [{"data": 1}, {"data": 2}])
    [newest] = await publish(web, {"data": 3})
    async with reading(web.client, FOLLOWED) as reader:
        gap, position, event = await reader.take(3)
        assert (gap.event, position.event, event.id, event.data) == ("gap", "position", newest, "3")
        await publish(web, [{"data": 4}, {"data": 5}])
        assert [event.data for event in await reader.take(2)] == ["4", "5"]


async def test_a_repeated_request_to_make_a_stream_is_harmless_at_the_same_time_too(web: Web) -> None:
    asked = [web.client.put(PATH, json={"max_events": 7}) for _ in range(20)]
    statuses = sorted(response.status_code for response in await asyncio.gather(*asked))
    assert statuses == [200] * 19 + [201]


async def test_streams_are_listed_with_what_there_is_to_say_about_them(web: Web) -> None:
    for name in ("chat.1", "chat.2", "news"):
        await publish(web, {"data": 1}, stream=name)
    first = (await web.client.get("/streams?prefix=chat&limit=1")).json()
    assert [each["name"] for each in first["streams"]] == ["chat.1"]
    second = (await web.client.get(f"/streams?prefix=chat&limit=1&cursor={first['next']}")).json()
    assert ([each["name"] for each in second["streams"]], second["next"]) == (["chat.2"], None)
    assert first["streams"] == [(await web.client.get("/streams/chat.1")).json()]
    assert [each["name"] for each in (await web.client.get("/streams")).json()["streams"]] == [
        "chat.1",
        "chat.2",
        "news",
    ]


async def test_reprises_own_streams_are_not_listed(web: Web, worker: PlayedWorker) -> None:
    async with worker.run((await web.create())["id"]):
        assert (await web.client.get("/streams")).json() == {"streams": [], "next": None}


async def test_an_expired_stream_leaves_the_list(web: Web, client: AsyncClient, keys: Keys) -> None:
    await publish(web, {"data": 1})
    await execute(client, "PEXPIRE", keys.log("chat"), 1)

    async def listed() -> list[Any]:
        return (await web.client.get("/streams")).json()["streams"]

    async def is_gone() -> bool:
        return not await listed()

    await wait_until(is_gone, description="the stream has left the list")
    assert await execute(client, "EXISTS", keys.streams_index) == 0
