"""Queues: who takes from which, in which order, and what becomes of tasks that nobody takes."""

from __future__ import annotations

import json

import pytest

from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from server.streams.ready import ReadyQueue, Room
from server.streams.records import Status
from server.streams.tasks import NewTask, TaskStore
from tests.support.played_worker import PlayedWorker
from tests.support.tasks import queued, store_over
from tests.support.web import Web
from tests.support.working import Bench, working

MODULES = ("tests.tasks.emitters", "tests.tasks.awkward", "tests.tasks.scheduled")


@pytest.fixture
def store(client: AsyncClient, keys: Keys) -> TaskStore:
    return store_over(client, keys)


async def reading(client: AsyncClient, keys: Keys, *levels: str, types: str = "t") -> ReadyQueue:
    """A worker's end of queues, the most urgent first."""
    streams = [[keys.ready(queue, each) for each in types] for queue in levels]
    queue = ReadyQueue(client, client, keys, levels=streams, consumer="w")
    await queue.ensure_groups()
    return queue


async def fill(store: TaskStore, queue: str, count: int, *, type: str = "t") -> list[str]:
    return [(await store.create(NewTask(type, {}, queue=queue))).id for _ in range(count)]


async def take(queue: ReadyQueue, limit: int) -> list[str]:
    return [entry.task_id for entry in await queue.look(Room(limit))]


async def test_a_later_queue_has_its_turn_only_while_the_earlier_ones_are_empty(
    store: TaskStore, client: AsyncClient, keys: Keys
):
    queue = await reading(client, keys, "high", "middle", "low")
    low, middle, high = [await fill(store, name, 3) for name in ("low", "middle", "high")]
    assert await take(queue, 2) == high[:2]
    assert await take(queue, 2) == [high[2], middle[0]]
    late = await fill(store, "high", 1)
    assert await take(queue, 1) == late
    assert await take(queue, 9) == [*middle[1:], *low]


async def test_a_backlog_of_one_type_in_an_urgent_queue_goes_before_every_later_queue(
    store: TaskStore, client: AsyncClient, keys: Keys
):
    queue = await reading(client, keys, "high", "low", types="abc")
    await fill(store, "low", 9, type="b")
    urgent = await fill(store, "high", 9, type="c")
    for limit in (4, 1, 2, 2):
        assert await take(queue, limit) == [urgent.pop(0) for _ in range(limit)]


async def test_a_worker_that_waits_is_woken_by_any_of_its_queues(redis_url: str, bench: Bench):
    async with working(redis_url, *MODULES, queues=("high", "low")):
        for queue in ("low", "high", "low"):
            assert (await bench.end(await bench.create("emit_many", queue=queue, count=1))).status is Status.COMPLETED


async def test_the_next_free_slot_is_for_the_most_urgent_queue_whatever_waits_for_longer(redis_url: str, bench: Bench):
    async with working(redis_url, *MODULES, queues=("high", "low"), concurrency=1):
        running = await bench.create("wait", queue="low")
        await bench.has_emitted(running, "waiting")
        low = [await bench.create("emit_many", queue="low", count=1) for _ in range(3)]
        high = [await bench.create("emit_many", queue="high", count=1) for _ in range(3)]
        assert await bench.types(running) == ["attempt", "waiting"]  # what runs is not disturbed
        await bench.store.cancel(running)
        for task_id in (*high, *low):
            await bench.end(task_id)
        await bench.queue_is_empty("high")
        await bench.queue_is_empty("low")
    assert await begun(bench) == [running, *high, *low]


async def test_a_worker_takes_nothing_from_queues_it_was_not_given(redis_url: str, bench: Bench):
    async with working(redis_url, *MODULES, queues=("a",)):
        other = await bench.create("emit_many", queue="b", count=1)
        delayed = await bench.store.create(NewTask("emit_many", {"count": 1}, queue="b", delay_ms=1))
        await bench.end(await bench.create("emit_many", queue="a", count=1))
        assert await queued(bench.client, bench.keys, "b") == [other]
        assert await execute(bench.client, "ZCARD", bench.keys.delayed("b")) == 1
        async with working(redis_url, *MODULES, queues=("b",)):
            for task_id in (other, delayed.id):
                assert (await bench.end(task_id)).attempt == 1
            await bench.queue_is_empty("b")


async def test_a_worker_without_queues_takes_from_default_and_those_of_its_task_types(redis_url: str, bench: Bench):
    async with working(redis_url, *MODULES):
        assert [each["queues"] for each in (await bench.registry.live_workers()).values()] == [["default", "gpu"]]
        for queue in ("gpu", "default"):
            assert (await bench.end(await bench.create("on_gpu", queue=queue))).attempt == 1


async def test_entries_of_a_dead_worker_are_taken_over_the_most_urgent_first(
    store: TaskStore, client: AsyncClient, keys: Keys
):
    low, high = [await fill(store, name, 2) for name in ("low", "high")]
    dead = await reading(client, keys, "high", "low")
    assert len(await take(dead, 4)) == 4
    heir = ReadyQueue(client, client, keys, levels=[[keys.ready(each, "t")] for each in ("high", "low")], consumer="x")
    assert [each.task_id for each in await heir.take_over(Room(3), idle_ms=0)] == [*high, low[0]]


async def begun(bench: Bench) -> list[str]:
    """Ids of tasks in the order in which they began."""
    snapshot = await bench.log.read("tasks", limit=10_000)
    updates = [json.loads(event.data) for event in snapshot.events if event.type == "task_update"]
    return list(dict.fromkeys(each["task_id"] for each in updates if each["status"] == "running"))


# Over HTTP.


async def test_a_task_goes_into_the_queue_of_its_type_unless_the_request_says_otherwise(
    web: Web, worker: PlayedWorker, client: AsyncClient, keys: Keys
):
    await worker.offer_in("gpu", queues=["default"])
    types = (await web.client.get("/task-types")).json()["task_types"]
    assert {each["name"]: each["queue"] for each in types}["heavy"] == "gpu"
    own, chosen = await web.create("heavy"), await web.create("heavy", queue="urgent")
    assert (own["queue"], chosen["queue"], (await web.create("free"))["queue"]) == ("gpu", "urgent", "default")
    assert await queued(client, keys, "gpu") == [own["id"]]
    assert await queued(client, keys, "urgent") == [chosen["id"]]


async def test_a_task_in_a_queue_that_no_worker_takes_from_tells_so(web: Web, worker: PlayedWorker):
    await worker.offer_in("gpu", queues=["default"])
    task_id = (await web.create("heavy"))["id"]
    assert (await web.client.get(f"/tasks/{task_id}")).json()["workers"] == 0
    await worker.offer_in("gpu", queues=["default", "gpu"])
    assert (await web.client.get(f"/tasks/{task_id}")).json()["workers"] == 1


async def test_a_type_that_moves_to_another_queue_makes_no_other_request_of_a_repeated_one(
    web: Web, worker: PlayedWorker
):
    headers = {"idempotency-key": "k"}
    await worker.offer_in("gpu", queues=["gpu"])
    first = await web.client.post("/tasks", json={"type": "heavy"}, headers=headers)
    await worker.offer_in("gpu2", queues=["gpu2"])
    again = await web.client.post("/tasks", json={"type": "heavy"}, headers=headers)
    assert (again.json()["id"], again.json()["queue"]) == (first.json()["id"], "gpu")
    other = await web.client.post("/tasks", json={"type": "heavy", "queue": "gpu2"}, headers=headers)
    assert other.status_code == 409
