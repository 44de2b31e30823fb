"""The endpoints of tasks, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.event_reader import EVENT_STREAM, data_of, reading, types_of
from tests.support.played_worker import FREE, PlayedWorker, event
from tests.support.web import Web


async def finish(worker: PlayedWorker, task_id: str, *, tokens: int = 2) -> None:
    async with worker.run(task_id) as writer:
        for number in range(tokens):
            await writer.emit(event("token", {"text": str(number)}))
        await writer.finish(Status.COMPLETED, f'{{"result":{{"tokens":{tokens}}}}}')


async def test_task_types_lists_what_live_workers_offer_with_their_schemas(web: Web) -> None:
    found = (await web.client.get("/task-types")).json()["task_types"]
    assert [each["name"] for each in found] == ["countdown", "free", "steps"]
    assert found[2]["description"] == "Does some steps."
    assert found[2]["input_schema"]["required"] == ["count"]


async def test_creating_a_task_answers_202_with_the_task_and_its_address(web: Web) -> None:
    response = await web.client.post("/tasks", json={"type": "steps", "input": {"count": 3}, "title": "Three"})
    task = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"/tasks/{task['id']}")
    assert task["events_url"] == f"/tasks/{task['id']}/events"
    expected = {"type": "steps", "title": "Three", "input": {"count": 3}, "status": "pending", "attempt": 0}
    assert {name: task[name] for name in expected} == expected
    assert (task["progress"], task["result"], task["error"]) == (None, None, None)


async def test_a_task_without_input_gets_an_empty_object(web: Web) -> None:
    assert (await web.create("free"))["input"] == {}


async def test_creating_without_executing_answers_201_and_waits_for_execute(web: Web) -> None:
    response = await web.client.post("/tasks", json={"type": "free", "execute": False})
    assert response.status_code == 201
    assert response.json()["status"] == "pending"


async def test_creating_with_an_event_stream_accepted_streams_the_task_from_its_beginning(
    web: Web, worker: PlayedWorker
) -> None:
    async with reading(web.client, "/tasks", method="POST", json={"type": "free"}) as reader:
        task_id = reader.response.headers["location"].removeprefix("/tasks/")
        first = await reader.next()
        assert (first.event, first.id) == ("position", "0-0")
        await finish(worker, task_id)
        assert types_of(await reader.rest()) == ["attempt", "token", "token", "complete"]


async def test_an_idempotency_key_gives_the_first_answer_again(web: Web) -> None:
    headers = {"idempotency-key": "the same"}
    request = {"type": "free", "input": {"a": 1}}
    first = await web.client.post("/tasks", json=request, headers=headers)
    again = await web.client.post("/tasks", json=request, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert len((await web.client.get("/tasks")).json()["tasks"]) == 1


async def test_an_idempotency_key_with_another_request_is_a_conflict(web: Web) -> None:
    headers = {"idempotency-key": "the same"}
    await web.client.post("/tasks", json={"type": "free"}, headers=headers)
    response = await web.client.post("/tasks", json={"type": "free", "input": {"b": 1}}, headers=headers)
    assert response.status_code == 409
    assert "new key" in response.json()["detail"]


async def test_the_list_is_newest_first_and_paged_by_its_cursor(web: Web) -> None:
    ids = [(await web.create())["id"] for _ in range(5)]
    first = (await web.client.get("/tasks", params={"limit": 2})).json()
    second = (await web.client.get("/tasks", params={"limit": 2, "cursor": first["next"]})).json()
    third = (await web.client.get("/tasks", params={"limit": 2, "cursor": second["next"]})).json()
    pages = [page["tasks"] for page in (first, second, third)]
    listed = [task for page in pages for task in page]
    assert sorted(task["id"] for task in listed) == sorted(ids)
    assert [task["created_at"] for task in listed] == sorted((task["created_at"] for task in listed), reverse=True)
    assert ([len(page) for page in pages], third["next"]) == ([2, 2, 1], None)


async def test_the_list_is_narrowed_by_status_and_type(web: Web) -> None:
    free, steps = await web.create(), await web.create("steps", input={"count": 1})
    await web.client.post(f"/tasks/{free['id']}/cancel")
    cancelled = (await web.client.get("/tasks", params={"status": "cancelled"})).json()["tasks"]
    of_type = (await web.client.get("/tasks", params={"type": "steps"})).json()["tasks"]
    assert [task["id"] for task in cancelled] == [free["id"]]
    assert [task["id"] for task in of_type] == [steps["id"]]


async def test_a_task_is_shown_with_its_result(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    await finish(worker, task_id)
    task = (await web.client.get(f"/tasks/{task_id}")).json()
    assert (task["status"], task["attempt"], task["result"]) == ("completed", 1, {"tokens": 2})


async def test_deleting_an_ended_task_removes_it_and_tells_its_readers_that_it_is_over(web: Web) -> None:
    task_id = (await web.create())["id"]
    await web.client.post(f"/tasks/{task_id}/cancel")
    assert (await web.client.delete(f"/tasks/{task_id}")).status_code == 204
    assert (await web.client.get(f"/tasks/{task_id}")).status_code == 404
    assert (await web.client.delete(f"/tasks/{task_id}")).status_code == 404
    assert (await web.client.get(f"/tasks/{task_id}/events", headers=EVENT_STREAM)).status_code == 204


async def test_deleting_a_task_that_has_not_ended_is_a_conflict(web: Web) -> None:
    task_id = (await web.create())["id"]
    response = await web.client.delete(f"/tasks/{task_id}")
    assert response.status_code == 409
    assert "Cancel it first" in response.json()["detail"]


async def test_cancelling_a_pending_task_ends_it_at_once_and_again_changes_nothing(web: Web) -> None:
    task_id = (await web.create())["id"]
    first = await web.client.post(f"/tasks/{task_id}/cancel")
    again = await web.client.post(f"/tasks/{task_id}/cancel")
    assert [(each.status_code, each.json()["status"]) for each in (first, again)] == [(202, "cancelled")] * 2
    assert first.json()["last_event_id"] == again.json()["last_event_id"]


async def test_cancelling_a_running_task_raises_the_flag_that_its_worker_reads(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer:
        response = await web.client.post(f"/tasks/{task_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (202, "running")
        await writer.finish(Status.CANCELLED, "{}")
    assert (await web.client.get(f"/tasks/{task_id}")).json()["status"] == "cancelled"


async def test_execute_starts_a_pending_task_and_streams_it_to_its_end(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create(execute=False))["id"]
    async with reading(web.client, f"/tasks/{task_id}/execute", method="POST") as reader:
        assert (await reader.next()).event == "position"
        await finish(worker, task_id)
        assert types_of(await reader.rest()) == ["attempt", "token", "token", "complete"]


async def test_execute_joins_a_running_task(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    async with worker.run(task_id) as writer:
        await writer.emit(event("token", {"text": "before"}))
        await writer.flush()
        async with reading(web.client, f"/tasks/{task_id}/execute", method="POST") as reader:
            assert types_of(await reader.take(2)) == ["attempt", "token"]
            await writer.finish(Status.COMPLETED, '{"result":null}')
            assert types_of(await reader.rest()) == ["complete"]


async def test_execute_replays_an_ended_task_and_does_not_run_it_again(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    await finish(worker, task_id)
    async with reading(web.client, f"/tasks/{task_id}/execute", method="POST") as reader:
        assert types_of(await reader.rest()) == ["attempt", "token", "token", "complete"]
    assert (await web.client.get(f"/tasks/{task_id}")).json()["status"] == "completed"


async def test_execute_with_rerun_of_starts_one_new_attempt_however_often_it_is_sent(
    web: Web, worker: PlayedWorker
) -> None:
    task_id = (await web.create())["id"]
    await finish(worker, task_id)
    rerun: dict[str, Any] = {"method": "POST", "json": {"rerun_of": 1}}
    async with reading(web.client, f"/tasks/{task_id}/execute", **rerun) as reader:
        assert (await reader.next()).event == "position"
        await finish(worker, task_id, tokens=1)
        events = await reader.rest()
    assert types_of(events) == ["attempt", "token", "complete"]
    assert (data_of(events[0])["attempt"], data_of(events[0])["reason"]) == (2, "rerun")
    async with reading(web.client, f"/tasks/{task_id}/execute", **rerun) as reader:
        assert [each.id for each in await reader.rest()] == [each.id for each in events]


async def test_a_task_cancelled_before_its_first_attempt_can_be_run_again(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    assert (await web.client.post(f"/tasks/{task_id}/cancel")).json()["attempt"] == 0
    async with reading(web.client, f"/tasks/{task_id}/execute", method="POST", json={"rerun_of": 0}) as reader:
        assert (await reader.next()).event == "position"
        await finish(worker, task_id)
        events = await reader.rest()
    assert types_of(events) == ["attempt", "token", "token", "complete"]
    assert (data_of(events[0])["attempt"], data_of(events[0])["reason"]) == (1, "rerun")


async def test_where_no_type_is_known_creating_is_refused_for_now_and_not_for_good(
    web: Web, worker: PlayedWorker, client: AsyncClient
) -> None:
    await execute(client, "FLUSHALL")
    response = await web.client.post("/tasks", json={"type": "free"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    await worker.offer(FREE)
    assert (await web.client.post("/tasks", json={"type": "free"})).status_code == 202
    assert (await web.client.post("/tasks", json={"type": "other"})).status_code == 422


async def test_execute_with_a_cursor_only_resumes(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create(execute=False))["id"]
    path, headers = f"/tasks/{task_id}/execute", {"last-event-id": "0-0"}
    async with reading(web.client, path, method="POST", headers=headers) as reader:
        assert (await reader.next()).event == "position"
        await web.client.post(path.replace("execute", "cancel"))
        assert types_of(await reader.rest()) == ["cancelled"]


async def test_execute_with_the_last_cursor_of_an_ended_task_answers_204(web: Web, worker: PlayedWorker) -> None:
    task_id = (await web.create())["id"]
    await finish(worker, task_id)
    last = (await web.client.get(f"/tasks/{task_id}")).json()["last_event_id"]
    response = await web.client.post(f"/tasks/{task_id}/execute", headers={"last-event-id": last})
    assert response.status_code == 204


@pytest.mark.parametrize("body", [{"rerun_of": -1}, {"rerun_of": "1"}, {"rerun_of": True}, {"rerun": 1}])
async def test_execute_refuses_what_is_no_attempt(web: Web, body: dict[str, object]) -> None:
    task_id = (await web.create(execute=False))["id"]
    response = await web.client.post(f"/tasks/{task_id}/execute", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] in {"#/rerun_of", "#/rerun"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tasks/nobody"),
        ("DELETE", "/tasks/nobody"),
        ("POST", "/tasks/nobody/execute"),
        ("POST", "/tasks/nobody/cancel"),
        ("GET", "/tasks/nobody/events"),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_an_unknown_task_is_404_before_anything_is_streamed(
    web: Web, method: str, path: str, accept: str
) -> None:
    response = await web.client.request(method, path, headers={"accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert "nobody" in response.json()["detail"]


async def test_a_task_tells_how_many_live_workers_could_run_it(web: Web, client: AsyncClient, keys: Keys) -> None:
    task_id = (await web.create())["id"]
    assert (await web.client.get(f"/tasks/{task_id}")).json()["workers"] == 1
    await execute(client, "DEL", keys.workers)
    assert (await web.client.get(f"/tasks/{task_id}")).json()["workers"] == 0
    await web.client.post(f"/tasks/{task_id}/cancel")
    assert (await web.client.get("/tasks")).json()["tasks"][0]["workers"] is None
