"""A task that exhausts the memory its worker may have. One that the kernel kills for it is a worker that died."""

import resource
from pathlib import Path

import pytest

from server.streams.records import Status
from tests.support.working import MODULES, Bench, WorkerProcess

#: Room for the task to eat, beyond what the worker has when it is ready.
ROOM_BYTES = 200 * 2**20
PIECES = {"large": 16 * 2**20, "small": 256}


@pytest.mark.parametrize("task_type", ["eat_memory", "eat_memory_in_thread"])
@pytest.mark.parametrize("piece", PIECES)
async def test_a_task_that_exhausts_memory_fails_its_attempts_and_the_worker_goes_on(
    redis_url: str, bench: Bench, task_type: str, piece: str
) -> None:
    with WorkerProcess(redis_url, modules=(*MODULES, "tests.tasks.hungry"), concurrency=3) as worker:
        await worker.says("is ready")
        limit_memory(worker.process.pid)
        beside = await bench.create("emit_many", count=150, interval_ms=20)
        await bench.has_emitted(beside, "number", count=5)
        task_id = await bench.create(task_type, max_attempts=2, piece_bytes=PIECES[piece])
        record = await bench.end(task_id, timeout=90)
        assert (record.status, record.attempt) == (Status.FAILED, 2)
        assert await bench.datas(task_id, "error") == [{"error": "MemoryError", "code": "task_failed"}]
        assert [each["error"] for each in await bench.datas(task_id, "attempt")] == [None, "MemoryError"]
        assert record.is_dead_letter
        assert (await bench.end(beside)).attempt == 1
        assert (await bench.end(await bench.create("emit_many", count=100))).attempt == 1
        assert worker.process.poll() is None
    assert [data["number"] for data in await bench.datas(beside, "number")] == list(range(150))


def limit_memory(pid: int) -> None:
    """Let a process have no more address space than it has, and some room."""
    words = Path(f"/proc/{pid}/status").read_text().split()
    used = int(words[words.index("VmSize:") + 1]) * 1024
    most = used + ROOM_BYTES
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
