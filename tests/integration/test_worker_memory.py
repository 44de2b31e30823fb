"""A task that exhausts the memory its worker may have. One that the kernel kills for it is a worker that died."""

import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.streams.records import Status, TaskRecord
from tests.support.waiting import wait_until
from tests.support.working import MODULES, Bench, WorkerProcess

#: Room for the task to eat, beyond what the worker has when it is ready.
ROOM_BYTES = 200 * 2**20
#: What is missing of the last piece is left to whoever has to tell of the error.
LARGE, SMALL = 16 * 2**20, 256


@pytest.mark.parametrize("task_type", ["eat_memory", "eat_memory_in_thread"])
async def test_a_task_that_exhausts_memory_fails_its_attempts_and_the_worker_goes_on(
    redis_url: str, bench: Bench, task_type: str
) -> None:
    with ExitStack() as stack:
        worker = await limited(stack, redis_url)
        beside = await bench.create("emit_many", count=150, interval_ms=20)
        await bench.has_emitted(beside, "number", count=5)
        task_id = await bench.create(task_type, max_attempts=2, piece_bytes=LARGE)
        record = await bench.end(task_id, timeout=90)
        assert (record.status, record.attempt) == (Status.FAILED, 2)
        assert await bench.datas(task_id, "error") == [{"error": "MemoryError", "code": "task_failed"}]
        assert [each["error"] for each in await bench.datas(task_id, "attempt")] == [None, "MemoryError"]
        assert record.is_dead_letter
        assert (await bench.end(beside)).attempt == 1
        assert (await bench.end(await bench.create("emit_many", count=100))).attempt == 1
        assert worker.process.poll() is None
    assert [data["number"] for data in await bench.datas(beside, "number")] == list(range(150))


@pytest.mark.parametrize("task_type", ["eat_memory", "eat_memory_in_thread"])
async def test_a_task_that_leaves_nothing_at_all_ends_too_even_if_its_worker_dies_of_it(
    redis_url: str, bench: Bench, task_type: str
) -> None:
    """With no byte left the interpreter itself may crash. Then others take over, and somebody starts it again."""
    with ExitStack() as stack:
        workers = [await limited(stack, redis_url) for _ in range(2)]
        beside = await bench.create("emit_many", count=150, interval_ms=20)
        await bench.has_emitted(beside, "number", count=5)
        task_id = await bench.create(task_type, max_attempts=2, piece_bytes=SMALL)

        async def has_ended(id: str) -> TaskRecord | None:
            for place, worker in enumerate(workers):
                if worker.process.poll() is not None:
                    workers[place] = await limited(stack, redis_url)
            record = await bench.store.get(id)
            return record if record.status.is_ended else None

        record = await wait_until(lambda: has_ended(task_id), description="it ends", timeout=120)
        assert record is not None
        assert (record.status, record.attempt) == (Status.FAILED, 2)
        assert record.is_dead_letter
        neighbour = await wait_until(lambda: has_ended(beside), description="the task beside it ends", timeout=120)
        assert neighbour is not None
        assert neighbour.status is Status.COMPLETED


async def limited(stack: ExitStack, redis_url: str) -> WorkerProcess:
    """A worker with no more address space than it has when it is ready, and some room."""
    modules = (*MODULES, "tests.tasks.hungry")
    worker = stack.enter_context(WorkerProcess(redis_url, modules=modules, concurrency=3))
    await worker.says("is ready")
    pid = worker.process.pid
    words = Path(f"/proc/{pid}/status").read_text().split()
    used = int(words[words.index("VmSize:") + 1]) * 1024
    resource.prlimit(pid, resource.RLIMIT_AS, (used + ROOM_BYTES, used + ROOM_BYTES))
    return worker
