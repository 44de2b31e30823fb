"""Event streams over HTTP: format, cursors, ends, and what is left when a reader goes."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from server.streams.calls import Lifetimes
from server.streams.connections import AsyncClient, execute
from server.streams.event import Draft
from server.streams.ids import parse_event_id
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.records import Status
from tests.support.event_reader import EVENT_STREAM, data_of, reading, types_of
from tests.support.played_worker import PlayedWorker, event
from tests.support.waiting import wait_until
from tests.support.web import Web, serving


async def ended_task(web: Web, worker: PlayedWorker, *, tokens: int = 3) -> tuple[str, list[str]]:
    """A completed task and the ids of its events."""
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer:
        for number in range(tokens):
            await writer.emit(event("token", {"text": str(number)}))
        last = await writer.finish(Status.COMPLETED, '{"result":null}')
    return task_id, [f"{last.generation}-{sequence}" for sequence in range(last.sequence + 1)]


async def test_a_stream_has_exactly_the_documented_headers_and_first_block(web: Web) -> None:
    task_id = (await web.create())["id"]
    async with web.client.stream("GET", f"/tasks/{task_id}/events", headers=EVENT_STREAM) as response:
        assert dict(response.headers) == {
            "content-type": "text/event-stream",
            "cache-control": "no-store, no-transform",
            "x-accel-buffering": "no",
        }
        first = await anext(response.aiter_bytes())
    match = re.fullmatch(rb"retry: (\d+)\n: reprise\n\n", first)
    assert match
    assert 1000 <= int(match[1]) <= 3000


async def test_a_reader_of_an_ended_task_gets_every_event_with_its_id_and_then_the_end(
    web: Web, worker: PlayedWorker
) -> None:
    task_id, ids = await ended_task(web, worker)
    async with reading(web.client, f"/tasks/{task_id}/events") as reader:
        events = await reader.rest()
    assert [each.id for each in events] == ids
    assert types_of(events) == ["attempt", "token", "token", "token", "complete"]


async def test_a_reader_with_the_last_id_of_an_ended_task_gets_204(web: Web, worker: PlayedWorker) -> None:
    task_id, ids = await ended_task(web, worker)
    response = await web.client.get(f"/tasks/{task_id}/events", headers={**EVENT_STREAM, "last-event-id": ids[-1]})
    assert (response.status_code, response.content) == (204, b"")


async def test_a_reader_in_the_middle_gets_the_rest(web: Web, worker: PlayedWorker) -> None:
    task_id, ids = await ended_task(web, worker)
    async with reading(web.client, f"/tasks/{task_id}/events", headers={"last-event-id": ids[1]}) as reader:
        assert [each.id for each in await reader.rest()] == ids[2:]


async def test_live_events_arrive_while_the_task_runs(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer, reading(web.client, f"/tasks/{task_id}/events") as reader:
        assert (await reader.next()).event == "attempt"
        for number in range(5):
            await writer.emit(event("token", {"text": str(number)}))
            assert data_of(await reader.next()) == {"text": str(number)}
        await writer.finish(Status.COMPLETED, '{"result":7}')
        assert data_of((await reader.rest())[-1]) == {"result": 7}


async def test_a_pending_task_opens_with_a_position_and_waits(web: Web) -> None:
    task_id = (await web.create(execute=False))["id"]
    async with reading(web.client, f"/tasks/{task_id}/events") as reader:
        first = await reader.next()
        assert (first.event, first.id, first.data) == ("position", "0-0", "{}")
        await web.client.post(f"/tasks/{task_id}/cancel")
        assert types_of(await reader.rest()) == ["cancelled"]


@pytest.mark.parametrize(
    ("header", "query", "expected"),
    [
        ("", "", 0),
        ("2", "", 3),
        ("2", "?last_event_id={0}", 3),
        ("", "?last_event_id={2}", 3),
        ("", "?lastEventId={2}", 3),
        ("", "?last_event_id={0}&lastEventId={2}", 3),
        ("", "?lastEventId={0}&last_event_id={2}&lastEventId=", 3),
        ("2", "?from=earliest", 3),
        ("2", "?last=1", 3),
        ("", "?from=earliest", 0),
        ("", "?last=2", 3),
    ],
)
async def test_the_header_beats_the_last_cursor_of_the_query_which_beats_named_places(
    web: Web, worker: PlayedWorker, header: str, query: str, expected: int
) -> None:
    task_id, ids = await ended_task(web, worker)
    headers = {"last-event-id": ids[int(header)] if header else ""}
    path = f"/tasks/{task_id}/events{query.format(*ids)}"
    async with reading(web.client, path, headers=headers) as reader:
        assert [each.id for each in await reader.rest()] == ids[expected:]


async def test_from_latest_of_an_ended_task_is_204(web: Web, worker: PlayedWorker) -> None:
    task_id, _ = await ended_task(web, worker)
    response = await web.client.get(f"/tasks/{task_id}/events?from=latest", headers=EVENT_STREAM)
    assert response.status_code == 204


async def test_attempts_all_shows_the_attempt_that_was_superseded(web: Web, worker: PlayedWorker) -> None:
    task_id, first_ids = await ended_task(web, worker)
    async with reading(web.client, f"/tasks/{task_id}/execute", method="POST", json={"rerun_of": 1}) as reader:
        async with worker.run(task_id) as writer:
            await writer.finish(Status.COMPLETED, '{"result":2}')
        await reader.until("complete")
    async with reading(web.client, f"/tasks/{task_id}/events?attempts=all") as reader:
        everything = await reader.rest()
    assert [each.id for each in everything[: len(first_ids)]] == first_ids
    assert types_of(everything[len(first_ids) :]) == ["attempt", "complete"]


async def test_heartbeats_are_events_for_those_who_ask(redis_url: str, worker: PlayedWorker) -> None:
    async with serving(redis_url, heartbeat_seconds=0.1) as web:
        await web.until_ready()
        async with reading(web.client, "/stream/system?heartbeat=event") as reader:
            assert types_of(await reader.take(3)) == ["position", "heartbeat", "heartbeat"]


async def test_a_response_ends_at_its_age_with_a_short_retry_and_goes_on_from_its_cursor(
    redis_url: str, worker: PlayedWorker
) -> None:
    async with serving(redis_url, max_stream_seconds=1, heartbeat_seconds=0.3) as web:
        await web.until_ready()
        task_id = (await web.create())["id"]
        async with worker.run(task_id) as writer:
            async with reading(web.client, f"/tasks/{task_id}/events") as reader:
                events = await reader.rest()
            assert (types_of(events), reader.retries[1:]) == (["attempt"], [500])
            await writer.finish(Status.COMPLETED, '{"result":null}')
        async with reading(web.client, f"/tasks/{task_id}/events", headers={"last-event-id": events[-1].id}) as reader:
            assert types_of(await reader.rest()) == ["complete"]


async def test_all_tasks_are_followed_from_now_on(web: Web, worker: PlayedWorker) -> None:
    await web.create()
    async with reading(web.client, "/tasks/stream") as reader:
        assert (await reader.next()).event == "position"
        task_id = (await web.create("steps", input={"count": 1}))["id"]
        update = await reader.next()
        assert (update.event, data_of(update)) == (
            "task_update",
            {"task_id": task_id, "type": "steps", "status": "pending", "progress": None, "attempt": 0},
        )
        await web.client.post(f"/tasks/{task_id}/cancel")
        assert data_of(await reader.next())["status"] == "cancelled"


async def test_the_system_stream_tells_of_tasks(web: Web) -> None:
    async with reading(web.client, "/stream/system") as reader:
        assert (await reader.next()).event == "position"
        task_id = (await web.create())["id"]
        await web.client.post(f"/tasks/{task_id}/cancel")
        assert types_of(await reader.take(2)) == ["task_created", "task_completed"]


async def test_the_system_stream_tells_that_a_server_has_started(web: Web) -> None:
    async with reading(web.client, "/stream/system?from=earliest") as reader:
        first = await reader.next()
        assert (first.event, data_of(first)) == ("info", {"message": "A server has started."})


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/{id}/events",
        "/tasks/stream",
        "/stream/system",
        "/stream/countdown/5",
        "/events?stream=a&stream=tasks.{id}",
    ],
)
async def test_head_answers_the_headers_of_a_stream_and_starts_nothing(web: Web, path: str) -> None:
    task_id = (await web.create())["id"]
    response = await web.client.head(path.format(id=task_id), headers=EVENT_STREAM)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "text/event-stream"
    assert len((await web.client.get("/tasks")).json()["tasks"]) == 1


async def test_head_of_an_unknown_task_is_404(web: Web) -> None:
    assert (await web.client.head("/tasks/nobody/events")).status_code == 404


async def test_a_reader_that_goes_leaves_nothing_running(web: Web) -> None:
    task_id = (await web.create())["id"]
    before = asyncio.all_tasks()
    async with reading(web.client, f"/tasks/{task_id}/events") as reader:
        await reader.next()
        assert (web.hub.subscribers, web.hub.watched) == (1, 1)
    await wait_until(lambda: (web.hub.subscribers, web.hub.watched) == (0, 0), description="the hub forgot the reader")
    await wait_until(lambda: asyncio.all_tasks() <= before, description="no asyncio task is left of it")


async def test_a_reader_that_goes_does_not_cancel_the_task(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer:
        async with reading(web.client, f"/tasks/{task_id}/events") as reader:
            await reader.next()
        await writer.finish(Status.COMPLETED, '{"result":"all of it"}')
    assert (await web.client.get(f"/tasks/{task_id}")).json()["result"] == "all of it"


async def test_a_reader_that_stops_reading_and_goes_leaves_nothing_running(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer, web.client.stream("GET", f"/tasks/{task_id}/events") as response:
        assert response.status_code == 200
        for number in range(200):
            await writer.emit(event("token", {"text": "x" * 1000, "n": number}))
            await writer.flush()
    await wait_until(lambda: web.hub.subscribers == 0, description="the stalled reader is gone")


async def test_two_hundred_readers_that_come_and_go_leave_nothing(web: Web, worker: PlayedWorker) -> None:
    task_id, ids = await ended_task(web, worker)
    pending = (await web.create())["id"]

    async def read(number: int) -> list[str]:
        if number % 2:
            async with reading(web.client, f"/tasks/{task_id}/events") as reader:
                return [each.id for each in await reader.rest()]
        async with reading(web.client, f"/tasks/{pending}/events") as reader:
            await reader.next()
            return ids

    found = await asyncio.gather(*[read(number) for number in range(200)])
    assert found == [ids] * 200
    await wait_until(lambda: (web.hub.subscribers, web.hub.watched) == (0, 0), description="the hub is empty")


async def test_a_reader_cut_at_random_places_gets_each_event_once(
    web: Web, worker: PlayedWorker, keys: Keys, client: AsyncClient
) -> None:
    log = Log(client, keys, lifetimes=Lifetimes(), max_events=10_000)
    start = await log.publish("system", [Draft("info", "{}")])
    sent = [*start]
    cursor, got = str(start[0].before()), list[str]()
    for _ in range(20):
        sent += await log.publish("system", [Draft("info", "{}")] * random.randint(1, 7))
        async with reading(web.client, "/stream/system", headers={"last-event-id": cursor}) as reader:
            for each in await reader.take(random.randint(1, len(sent) - len(got))):
                if each.event == "info":
                    got.append(each.id)
                cursor = each.id
    async with reading(web.client, "/stream/system", headers={"last-event-id": cursor}) as reader:
        while len(got) < len(sent):
            each = await reader.next()
            got += [each.id] if each.event == "info" else []
    assert [parse_event_id(each) for each in got] == sent


async def test_a_cursor_ahead_of_a_shared_log_is_no_error_and_ends_in_a_gap_if_nothing_comes(web: Web) -> None:
    await web.create()
    future = f"{2**60}-7"
    async with reading(web.client, "/stream/system", headers={"last-event-id": future}) as reader:
        waiting, gap, position = await reader.take(3)
        assert (waiting.event, waiting.id) == ("position", future)
        assert (gap.event, data_of(gap)["requested"], data_of(gap)["stream"]) == ("gap", future, "system")
        assert (position.event, position.id) == ("position", "0-0")
        assert types_of(await reader.take(2)) == ["info", "task_created"]


async def test_a_cursor_ahead_of_a_running_task_waits_for_its_writer(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer:
        headers = {"last-event-id": f"{writer.generation}-3"}
        async with reading(web.client, f"/tasks/{task_id}/events", headers=headers) as reader:
            assert (await reader.next()).event == "position"
            for number in range(5):
                await writer.emit(event("token", {"n": number}))
            last = await writer.finish(Status.COMPLETED, '{"result":null}')
            events = await reader.rest()
    assert [each.id for each in events] == [f"{last.generation}-{sequence}" for sequence in (4, 5, 6)]


@pytest.mark.parametrize("generation_later", [0, 1000], ids=["same run", "a later task's"])
async def test_a_cursor_beyond_the_end_of_a_task_is_told_the_end_and_then_has_it(
    web: Web, worker: PlayedWorker, generation_later: int
) -> None:
    task_id, ids = await ended_task(web, worker)
    foreign = f"{int(ids[-1].split('-', maxsplit=1)[0]) + generation_later}-9999"
    path = f"/tasks/{task_id}/events"
    async with reading(web.client, path, headers={"last-event-id": foreign}) as reader:
        events = await reader.rest()
    if generation_later:
        assert data_of(events.pop(0))["attempt"] == 1  # none of what the reader has is of this run
    assert types_of(events) == ["gap", "position", "complete"]
    assert data_of(events[0]) == {
        "stream": f"tasks.{task_id}",
        "requested": foreign,
        "resumed_at": ids[-1],
        "missed": None,
    }
    assert events[-1].id == ids[-1]
    assert (await web.client.get(path, headers={**EVENT_STREAM, "last-event-id": ids[-1]})).status_code == 204


async def test_an_ended_task_whose_log_expired_still_tells_its_end_after_a_gap(
    web: Web, worker: PlayedWorker, client: AsyncClient, keys: Keys
) -> None:
    task_id, ids = await ended_task(web, worker)
    await execute(client, "DEL", keys.log(f"tasks.{task_id}"))
    async with reading(web.client, f"/tasks/{task_id}/events", headers={"last-event-id": ids[1]}) as reader:
        events = await reader.rest()
    assert types_of(events) == ["gap", "position", "complete"]
    assert events[-1].id == ids[-1]
    response = await web.client.get(f"/tasks/{task_id}/events", headers={**EVENT_STREAM, "last-event-id": ids[-1]})
    assert response.status_code == 204
