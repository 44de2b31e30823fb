"""`GET /stream/countdown/{seconds}`: starts once, continues for ever, and only for an EventSource."""

from __future__ import annotations

import pytest

from server.streams.errors import LogUnavailable
from server.streams.names import task_of_stream
from server.streams.records import Status
from tests.support.event_reader import EVENT_STREAM, reading, types_of
from tests.support.played_worker import PlayedWorker, event
from tests.support.web import Web, serving


async def listed(web: Web) -> list[str]:
    return [task["id"] for task in (await web.client.get("/tasks")).json()["tasks"]]


async def begin(web: Web) -> tuple[str, str]:
    """Connect once and drop; the id of the first event and the task's id."""
    async with reading(web.client, "/stream/countdown/3") as reader:
        first = await reader.next()
    assert first.event == "position"
    stream, _, position = first.id.rpartition(":")
    assert position == "0-0"
    task_id = task_of_stream(stream)
    assert task_id
    return first.id, task_id


async def count_down(worker: PlayedWorker, task_id: str) -> None:
    async with worker.run(task_id) as writer:
        for remaining in (2, 1, 0):
            await writer.emit(event("tick", {"remaining": remaining}))
        await writer.finish(Status.COMPLETED, '{"result":null}')


async def test_connecting_starts_a_countdown_and_tells_its_stream_first(web: Web, worker: PlayedWorker) -> None:
    async with reading(web.client, "/stream/countdown/3") as reader:
        first = await reader.next()
        task_id = task_of_stream(first.id.removesuffix(":0-0"))
        assert task_id
        task = (await web.client.get(f"/tasks/{task_id}")).json()
        assert (first.event, task["type"], task["input"]) == ("position", "countdown", {"seconds": 3})
        await count_down(worker, task_id)
        events = await reader.rest()
    assert types_of(events) == ["attempt", "tick", "tick", "tick", "complete"]
    assert [each.id.startswith(f"tasks.{task_id}:") for each in events] == [True] * 5


async def test_a_reconnect_continues_that_countdown_and_starts_none(web: Web, worker: PlayedWorker) -> None:
    cursor, task_id = await begin(web)
    await count_down(worker, task_id)
    async with reading(web.client, "/stream/countdown/3", headers={"last-event-id": cursor}) as reader:
        first_three = await reader.take(3)
    headers = {"last-event-id": first_three[-1].id}
    async with reading(web.client, "/stream/countdown/3", headers=headers) as reader:
        rest = await reader.rest()
    assert types_of(first_three + rest) == ["attempt", "tick", "tick", "tick", "complete"]
    assert await listed(web) == [task_id]


async def test_a_reconnect_after_the_end_answers_204(web: Web, worker: PlayedWorker) -> None:
    _, task_id = await begin(web)
    await count_down(worker, task_id)
    last = (await web.client.get(f"/tasks/{task_id}")).json()["last_event_id"]
    headers = {**EVENT_STREAM, "last-event-id": f"tasks.{task_id}:{last}"}
    assert (await web.client.get("/stream/countdown/3", headers=headers)).status_code == 204
    assert await listed(web) == [task_id]


async def test_the_cursor_may_come_in_the_query(web: Web, worker: PlayedWorker) -> None:
    cursor, task_id = await begin(web)
    await count_down(worker, task_id)
    async with reading(web.client, "/stream/countdown/3", params={"last_event_id": cursor}) as reader:
        assert (await reader.rest())[-1].event == "complete"
    assert await listed(web) == [task_id]


async def test_a_cursor_of_another_task_is_404(web: Web) -> None:
    task_id = (await web.create("free"))["id"]
    headers = {**EVENT_STREAM, "last-event-id": f"tasks.{task_id}:0-0"}
    response = await web.client.get("/stream/countdown/3", headers=headers)
    assert (response.status_code, await listed(web)) == (404, [task_id])


async def test_a_cursor_of_a_task_that_is_gone_is_404(web: Web) -> None:
    headers = {**EVENT_STREAM, "last-event-id": "tasks.gone:17-4"}
    response = await web.client.get("/stream/countdown/3", headers=headers)
    assert (response.status_code, await listed(web)) == (404, [])


@pytest.mark.parametrize("seconds", ["0", "01", "61", "x", "-1", "1.5", "1e1", "٣", "%20", "9" * 400, "%00"])
async def test_anything_but_1_to_60_seconds_is_refused_and_starts_nothing(web: Web, seconds: str) -> None:
    response = await web.client.get(f"/stream/countdown/{seconds}", headers=EVENT_STREAM)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert "from 1 to 60" in response.json()["detail"]
    assert await listed(web) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "*/*"},
        {"accept": "text/html"},
        {"accept": "text/html, text/event-stream;q=0"},
        {"accept": "Text/Event-Stream ; Q = 0.000"},
        {"accept": "text/event-streams, application/x+text/event-stream"},
        {"accept": "text/event-stream", "sec-purpose": "prefetch"},
        {"accept": "text/event-stream", "sec-purpose": "prefetch;prerender"},
    ],
)
async def test_a_prefetch_or_a_link_preview_starts_nothing(web: Web, headers: dict[str, str]) -> None:
    response = await web.client.get("/stream/countdown/3", headers=headers)
    assert (response.status_code, await listed(web)) == (406, [])
    assert "EventSource" in response.json()["detail"]


@pytest.mark.parametrize("accept", ["text/html, Text/Event-Stream;q=0.1", "*/*;q=0,text/event-stream"])
async def test_an_event_stream_among_other_types_starts_one(web: Web, accept: str) -> None:
    async with reading(web.client, "/stream/countdown/3", headers={"accept": accept}) as reader:
        await reader.next()
    assert len(await listed(web)) == 1


@pytest.mark.parametrize(
    "cursor", ["17-4", "system:17-4", "tasks.:17-4", "tasks.a:x", "tasks.a:1-1,tasks.b:1-1", "tasks.a\x01:1-1", ":"]
)
async def test_a_foreign_or_malformed_cursor_is_refused_and_starts_nothing(web: Web, cursor: str) -> None:
    response = await web.client.get("/stream/countdown/3", params={"last_event_id": cursor}, headers=EVENT_STREAM)
    assert (response.status_code, await listed(web)) == (400, [])
    assert "exactly as it was received" in response.json()["detail"]


async def test_without_a_worker_that_counts_an_eventsource_is_asked_to_come_back(redis_url: str) -> None:
    async with serving(redis_url) as web:
        await web.until_ready()
        async with reading(web.client, "/stream/countdown/3") as reader:
            assert await reader.rest() == []
        assert len(reader.retries) == 1
        assert await listed(web) == []


async def test_a_countdown_whose_log_cannot_be_read_yet_is_not_started_again(
    web: Web, worker: PlayedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise LogUnavailable("Redis went away")

    with monkeypatch.context() as patch:
        patch.setattr(web.hub, "subscribe", away)
        async with reading(web.client, "/stream/countdown/3") as reader:
            (first,) = await reader.rest()
    (task_id,) = await listed(web)
    assert (first.event, first.id) == ("position", f"tasks.{task_id}:0-0")
    await count_down(worker, task_id)
    async with reading(web.client, "/stream/countdown/3", headers={"last-event-id": first.id}) as reader:
        assert (await reader.rest())[-1].event == "complete"
