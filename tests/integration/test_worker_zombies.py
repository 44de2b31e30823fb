"""A worker that was frozen past its lease and wakes up: its function is ended, and not one event of it gets in."""

import signal

import pytest

from server.streams.records import Status
from tests.support.working import Bench, WorkerProcess, working

WITNESSES = "tests.tasks.witnesses"


@pytest.mark.parametrize(
    ("task_type", "sights"),
    [
        ("witness_waiting", {"CancelledError"}),
        # The refusal of its next event may come before the cancellation that follows from the same discovery.
        ("witness_emitting", {"CancelledError", "Fenced", "Stopped"}),
        ("witness_watching_in_thread", {"Stopped"}),
        ("witness_emitting_in_thread", {"Stopped"}),
    ],
)
async def test_the_function_of_a_zombie_is_stopped_and_nothing_of_it_reaches_the_log(
    redis_url: str, bench: Bench, task_type: str, sights: set[str]
) -> None:
    with WorkerProcess(redis_url, modules=(WITNESSES,)) as zombie:
        await zombie.says("is ready")
        task_id = await bench.create(task_type)
        await bench.has_emitted(task_id, "alive")
        zombie.send(signal.SIGSTOP)
        async with working(redis_url, WITNESSES):
            await bench.has_emitted(task_id, "number")
            first, second = await _generations(bench, task_id)
            zombie.send(signal.SIGCONT)
            await zombie.says(f"Stopped task {task_id}")
            await zombie.says(f"Attempt 1 of task {task_id} saw ")
            record = await bench.end(task_id)
            await bench.queue_is_empty()
        assert zombie.process.poll() is None
        saw = [each for each in zombie.messages() if each.startswith("Attempt 1 of task")]
    told = {f"Attempt 1 of task {task_id} saw {sight}; cancelled: " for sight in sights}
    assert len(saw) == 1
    assert saw[0].startswith(tuple(told)), saw
    if task_type != "witness_emitting":
        assert saw[0].endswith("cancelled: True")
    assert (record.status, record.attempt) == (Status.COMPLETED, 2)
    after = await _generations(bench, task_id)
    assert after[0] == first
    assert after[1][: len(second)] == second
    assert len(after) == 2
    assert [sequence for _, sequence in after[1]] == list(range(len(after[1])))


async def _generations(bench: Bench, task_id: str) -> list[list[tuple[int, int]]]:
    """The ids in the log, in its order, by generation."""
    ids = [(event.id.generation, event.id.sequence) for event in await bench.events(task_id)]
    assert ids == sorted(ids)
    return [[each for each in ids if each[0] == generation] for generation in sorted({each[0] for each in ids})]
