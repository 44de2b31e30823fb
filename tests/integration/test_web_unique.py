"""Unique keys over HTTP, and with real workers that die."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from server.streams.records import Status
from server.streams.tasks import NewTask
from tests.integration.test_web_bad_input import nothing_created, problem
from tests.support.event_reader import reading, types_of
from tests.support.played_worker import PlayedWorker, event
from tests.support.web import Web
from tests.support.working import Bench, WorkerProcess, working

MODULES = ("tests.tasks.emitters", "tests.tasks.awkward", "tests.tasks.failing")


async def test_the_answer_is_the_task_that_has_the_key(web: Web, worker: PlayedWorker) -> None:
    first = await web.client.post("/tasks", json={"type": "free", "unique_key": "nightly"})
    again = await web.client.post("/tasks", json={"type": "free", "unique_key": "nightly", "input": {"a": 1}})
    assert [each.status_code for each in (first, again)] == [202, 202]
    assert again.headers["location"] == first.headers["location"]
    assert (again.json()["id"], again.json()["unique_key"]) == (first.json()["id"], "nightly")
    async with worker.run(first.json()["id"]) as writer:
        await writer.finish(Status.COMPLETED, '{"result":null}')
    assert (await web.create(unique_key="nightly"))["id"] != first.json()["id"]


async def test_with_an_event_stream_accepted_it_is_the_stream_of_that_task_from_its_beginning(
    web: Web, worker: PlayedWorker
) -> None:
    task_id = (await web.create(unique_key="k"))["id"]
    async with worker.run(task_id) as writer:
        await writer.emit(event("token", {"text": "a"}))
        await writer.flush()
        body = {"type": "free", "unique_key": "k"}
        async with reading(web.client, "/tasks", method="POST", json=body) as reader:
            assert reader.response.headers["location"] == f"/tasks/{task_id}"
            assert types_of(await reader.take(2)) == ["attempt", "token"]
            await writer.finish(Status.COMPLETED, '{"result":null}')
            assert types_of(await reader.rest()) == ["complete"]


@pytest.mark.parametrize("key", ["", "k" * 256, 5, True, ["k"], {}])
async def test_what_is_no_key_is_refused_by_its_name(web: Web, key: Any) -> None:
    document = problem(await web.client.post("/tasks", json={"type": "free", "unique_key": key}), 422)
    assert [error["pointer"] for error in document["errors"]] == ["#/unique_key"]
    assert "is not a key. Use text of 1 to 255 characters." in document["detail"]
    assert await nothing_created(web)


@pytest.mark.parametrize("key", ["k" * 255, "a/b c:{}", "ü\n\u0000🙂"])
async def test_any_text_may_be_a_key(web: Web, key: str) -> None:
    task = await web.create(unique_key=key)
    assert (await web.create(unique_key=key))["id"] == task["id"]
    assert task["unique_key"] == key


async def test_running_a_task_again_beside_another_with_its_key_is_a_conflict(web: Web) -> None:
    first = (await web.create(unique_key="k"))["id"]
    await web.client.post(f"/tasks/{first}/cancel")
    second = (await web.create(unique_key="k"))["id"]
    document = problem(await web.client.post(f"/tasks/{first}/execute", json={"rerun_of": 0}), 409)
    assert second in document["detail"]
    assert (await web.client.get(f"/tasks/{first}")).json()["status"] == "cancelled"


async def test_a_task_whose_worker_was_killed_keeps_its_key_until_it_has_ended_elsewhere(
    redis_url: str, bench: Bench
) -> None:
    new = NewTask("wait", {}, unique_key="k")
    with WorkerProcess(redis_url, modules=MODULES) as doomed:
        await doomed.says("is ready")
        task_id = (await bench.store.create(new)).id
        await bench.has_emitted(task_id, "waiting")
        doomed.send(signal.SIGKILL)
        await doomed.ends()
    assert (await bench.store.create(new)).id == task_id
    async with working(redis_url, *MODULES):
        await bench.has_emitted(task_id, "waiting", count=2)
        assert (await bench.store.create(new)).id == task_id
        await bench.store.cancel(task_id)
        await bench.end(task_id)
        assert (await bench.store.create(new)).id != task_id


async def test_a_dead_letter_has_no_key_any_more(redis_url: str, bench: Bench) -> None:
    new = NewTask("fail_until", {"attempt": 9}, max_attempts=2, unique_key="k")
    async with working(redis_url, *MODULES):
        task_id = (await bench.store.create(new)).id
        assert (await bench.end(task_id)).is_dead_letter
        other = (await bench.store.create(new)).id
        assert other != task_id
        await bench.end(other)
