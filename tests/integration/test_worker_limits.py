"""Limits of a task type within a worker: never exceeded, whatever is taken over, never in the way of other types."""

from __future__ import annotations

import asyncio
import signal

import pytest

from server.streams.connections import AsyncClient, execute
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.ready import ReadyQueue, Room
from server.streams.records import Status
from server.streams.tasks import NewTask, TaskStore
from tests.support.tasks import store_over
from tests.support.waiting import wait_until
from tests.support.working import Bench, WorkerProcess, working

MODULES = ("tests.tasks.emitters", "tests.tasks.scheduled")


@pytest.fixture
def store(client: AsyncClient, keys: Keys) -> TaskStore:
    return store_over(client, keys)


async def running(bench: Bench, task_ids: list[str]) -> list[str]:
    records = [await bench.store.get(task_id) for task_id in task_ids]
    return [record.id for record in records if record.status is Status.RUNNING]


async def held(bench: Bench, task_type: str) -> int:
    """How many entries of a type workers hold."""
    return (await execute(bench.client, "XPENDING", bench.keys.ready("default", task_type), "workers"))["pending"]


async def test_no_more_of_a_type_is_taken_than_its_limit_and_other_types_go_on(redis_url: str, bench: Bench):
    async with working(redis_url, *MODULES, concurrency=10):
        limited = [await bench.create("two_at_a_time") for _ in range(6)]
        for task_id in limited[:2]:
            await bench.has_emitted(task_id, "waiting")
        for _ in range(5):
            assert (await bench.end(await bench.create("emit_many", count=1))).status is Status.COMPLETED
        assert await running(bench, limited) == limited[:2]
        assert await held(bench, "two_at_a_time") == 2  # the others stay in the queue, for other workers


async def test_the_next_of_a_full_type_begins_when_one_ends_although_the_worker_waits_for_others(
    redis_url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("workers.worker.BLOCK_MS", 60_000)  # so long it waits for others, unless something wakes it
    count = 5
    async with working(redis_url, *MODULES):
        task_ids = [await bench.create("one_at_a_time", seconds=0) for _ in range(count)]
        async with asyncio.timeout(50):
            for task_id in task_ids:
                await bench.end(task_id)
    updates = [each for task_id in task_ids for each in await bench.updates(task_id, stream="system")]
    assert [each["status"] for each in updates] == ["pending", "running", "completed"] * count


async def test_a_worker_whose_only_type_is_full_waits_and_goes_on(redis_url: str, bench: Bench):
    async with working(redis_url, "tests.tasks.scheduled", concurrency=4):
        first = [await bench.create(each) for each in ("one_at_a_time", "two_at_a_time", "two_at_a_time")]
        for task_id in first:
            await bench.has_emitted(task_id, "waiting")
        last = await bench.create("one_at_a_time", seconds=0)
        assert await held(bench, "one_at_a_time") == 1
        await bench.store.cancel(first[0])
        assert (await bench.end(last)).status is Status.COMPLETED


async def test_a_limit_holds_while_tasks_of_a_dead_worker_are_taken_over(redis_url: str, bench: Bench):
    with WorkerProcess(redis_url, modules=MODULES) as one, WorkerProcess(redis_url, modules=MODULES) as two:
        for each in (one, two):
            await each.says("is ready")
        task_ids = [await bench.create("two_at_a_time") for _ in range(4)]
        for task_id in task_ids:
            await bench.has_emitted(task_id, "waiting")
        for each in (one, two):
            each.send(signal.SIGKILL)
        async with working(redis_url, *MODULES):
            await wait_until(lambda: _attempts(bench, task_ids, 2), description="two were taken over")
            assert (await bench.end(await bench.create("emit_many", count=1))).status is Status.COMPLETED
            first = await _taken_over(bench, task_ids)
            assert len(first) == 2
            for task_id in first:
                await bench.store.cancel(task_id)
            await wait_until(lambda: _attempts(bench, task_ids, 4), description="so are the others")
            for task_id in set(task_ids) - set(first):
                await bench.store.cancel(task_id)
                await bench.end(task_id)


async def _taken_over(bench: Bench, task_ids: list[str]) -> list[str]:
    return [task_id for task_id in task_ids if (await bench.types(task_id)).count("attempt") == 2]


async def _attempts(bench: Bench, task_ids: list[str], count: int) -> bool:
    return len(await _taken_over(bench, task_ids)) == count


async def test_a_look_takes_of_each_type_what_fits_and_the_rest_of_the_room_from_others(
    store: TaskStore, client: AsyncClient, keys: Keys
):
    types = ("a", "b", "c")
    ids = {each: [(await store.create(NewTask(each, {}))).id for _ in range(5)] for each in types}
    levels = [[keys.ready("default", each) for each in types]]
    queue = ReadyQueue(client, client, keys, levels=levels, consumer="w")
    await queue.ensure_groups()
    found = [each.task_id for each in await queue.look(Room(6, {"a": 1, "b": 0}))]
    assert sorted(found) == sorted([ids["a"][0], *ids["c"]])
    found = [each.task_id for each in await queue.look(Room(2, {"a": 5, "b": 5}))]
    assert len(found) == 2
    dead = ReadyQueue(client, client, keys, levels=levels, consumer="x")
    taken = await dead.take_over(Room(9, {"a": 1, "b": 0}), idle_ms=0)
    assert sum(each.task_type == "a" for each in taken) == 1
    assert not any(each.task_type == "b" for each in taken)


async def test_what_was_taken_before_a_queue_refused_is_not_left_behind(
    store: TaskStore, client: AsyncClient, keys: Keys
):
    first = await store.create(NewTask("a", {}))
    spoilt = keys.ready("default", "b")
    queue = ReadyQueue(client, client, keys, levels=[[keys.ready("default", "a")], [spoilt]], consumer="w")
    await execute(client, "XGROUP", "CREATE", keys.ready("default", "a"), "workers", "0", "MKSTREAM")
    await execute(client, "SET", spoilt, "no stream", "PX", 60_000)
    assert [each.task_id for each in await queue.look(Room(5, {}))] == [first.id]
    assert [each.task_id for each in await queue.take_over(Room(5, {}), idle_ms=0)] == [first.id]
    with pytest.raises(LogUnavailable):
        await queue.look(Room(5, {}))
    await execute(client, "DEL", spoilt)
