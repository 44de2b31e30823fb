"""Workers that die, freeze and block: who runs the task then, and what the log holds."""

import signal
from pathlib import Path

from server.streams.records import Status
from tests.support.waiting import wait_until
from tests.support.working import Bench, WorkerProcess, working


async def test_a_killed_workers_task_is_run_again_by_another_after_its_lease(
    redis_url: str, bench: Bench, enough: Path
) -> None:
    with WorkerProcess(redis_url) as doomed:
        await doomed.says("is ready")
        task_id = await bench.create("emit_many", count=40, interval_ms=25, until=str(enough))
        await bench.has_emitted(task_id, "number", count=10)
        async with working(redis_url):
            doomed.send(signal.SIGKILL)
            enough.touch()
            record = await bench.end(task_id)
            await bench.queue_is_empty()
    assert (record.status, record.attempt) == (Status.COMPLETED, 2)
    attempts = await bench.datas(task_id, "attempt")
    assert [(each["attempt"], each["reason"]) for each in attempts] == [(1, "started"), (2, "worker_lost")]
    await _assert_last_generation_is_whole(bench, task_id)


async def test_a_worker_that_starts_after_the_death_takes_the_task_over_too(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url) as doomed:
        await doomed.says("is ready")
        task_id = await bench.create("wait")
        await bench.has_emitted(task_id, "waiting")
        doomed.send(signal.SIGKILL)
    async with working(redis_url):
        await bench.has_emitted(task_id, "waiting", count=2)
        await bench.store.cancel(task_id)
        assert (await bench.end(task_id)).attempt == 2


async def test_a_task_whose_attempts_are_used_up_ends_with_an_error(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url) as doomed:
        await doomed.says("is ready")
        task_id = await bench.create("wait", max_attempts=1)
        await bench.has_emitted(task_id, "waiting")
        doomed.send(signal.SIGKILL)
    async with working(redis_url):
        record = await bench.end(task_id)
        await bench.queue_is_empty()
    assert (await bench.datas(task_id, "error"))[0]["code"] == "attempts_exhausted"
    assert (await bench.updates(task_id))[-1]["status"] == record.status == "failed"


async def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_wakes(
    redis_url: str, bench: Bench, enough: Path
) -> None:
    with WorkerProcess(redis_url) as zombie:
        await zombie.says("is ready")
        task_id = await bench.create("emit_many", count=150, interval_ms=20, until=str(enough))
        await bench.has_emitted(task_id, "number", count=10)
        zombie.send(signal.SIGSTOP)
        async with working(redis_url):
            await bench.has_emitted(task_id, "attempt", count=2)
            zombie.send(signal.SIGCONT)
            await zombie.says(f"Stopped task {task_id}")
            enough.touch()
            record = await bench.end(task_id)
            await bench.queue_is_empty()
        assert zombie.process.poll() is None
    assert (record.status, record.attempt) == (Status.COMPLETED, 2)
    generations = [event.id.generation for event in await bench.events(task_id)]
    assert generations == sorted(generations)
    await _assert_last_generation_is_whole(bench, task_id)


async def test_a_task_that_blocks_the_event_loop_keeps_its_lease(redis_url: str, bench: Bench) -> None:
    # Three times as long as the lease, which a busy machine alone keeps nobody from renewing.
    with WorkerProcess(redis_url, lease_seconds=2) as blocked:
        await blocked.says("is ready")
        task_id = await bench.create("block_loop", seconds=6)
        await bench.has_emitted(task_id, "blocking")
        async with working(redis_url, lease_seconds=2):
            record = await bench.end(task_id)
    assert (record.status, record.attempt) == (Status.COMPLETED, 1)
    assert await bench.types(task_id) == ["attempt", "blocking", "blocked", "complete"]


async def test_two_workers_of_the_same_name_share_the_work(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, name="twin"), working(redis_url, name="twin"):
        task_ids = [await bench.create("emit_many", count=3) for _ in range(30)]
        for task_id in task_ids:
            assert (await bench.end(task_id)).attempt == 1
        assert len(await bench.registry.live_workers()) == 2
    assert await bench.registry.live_workers() == {}


async def test_one_of_two_workers_of_the_same_name_dies_and_the_other_takes_its_tasks_over(
    redis_url: str, bench: Bench
) -> None:
    with (
        WorkerProcess(redis_url, name="twin", concurrency=2, lease_seconds=3) as one,
        WorkerProcess(redis_url, name="twin", concurrency=2, lease_seconds=3) as other,
    ):
        await one.says("Worker twin-")
        await other.says("Worker twin-")
        task_ids = [await bench.create("wait") for _ in range(4)]
        for task_id in task_ids:
            await bench.has_emitted(task_id, "waiting")
        ran = {task_id: (await bench.store.get(task_id)).values["worker"] for task_id in task_ids}
        dead, alive = _name_of(one), _name_of(other)
        assert sorted(ran.values()) == sorted([dead, dead, alive, alive])
        assert set(await _consumers(bench, "wait")) == {dead, alive}
        one.send(signal.SIGKILL)
        for task_id in sorted(ran, key=lambda each: ran[each] == dead):  # those of the other make room
            attempts = 2 if ran[task_id] == dead else 1
            await bench.has_emitted(task_id, "waiting", count=attempts)
            await bench.store.cancel(task_id)
            record = await bench.end(task_id)
            assert (record.attempt, record.values["worker"]) == (attempts, alive)
        await bench.queue_is_empty()


async def test_no_more_is_taken_than_can_be_run(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, concurrency=2):
        task_ids = [await bench.create("wait") for _ in range(5)]
        await wait_until(lambda: _running(bench, task_ids, 2), description="two tasks run")
        assert await bench.pending() == 2


async def test_several_queues_are_served_within_the_slots_there_are(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, queues=("a", "b", "c"), concurrency=2):
        task_ids = [await bench.create("emit_many", queue=queue, count=1) for queue in "abc" for _ in range(5)]
        for task_id in task_ids:
            assert (await bench.end(task_id)).status is Status.COMPLETED


async def test_workers_of_different_types_on_one_queue_take_only_what_they_offer(redis_url: str, bench: Bench) -> None:
    one, other = "tests.tasks.emitters", "tests.tasks.awkward"
    task_ids: list[str] = []
    async with working(redis_url, one, name="one"), working(redis_url, other, name="other"):
        for _ in range(20):
            task_ids += [await bench.create("emit_many", count=1), await bench.create("tell_attempt")]
        for task_id in task_ids:
            assert (await bench.end(task_id)).attempt == 1
        await bench.queue_is_empty()
        for task_type, name in (("emit_many", "one"), ("tell_attempt", "other")):
            assert await _readers(bench, task_type) == [name]
            assert await _entries_ever(bench, task_type) == 20  # one each: none was put back


async def test_a_task_waits_untouched_for_a_worker_that_offers_its_type(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, "tests.tasks.awkward"):
        task_id = await bench.create("emit_many", count=1)
        await bench.end(await bench.create("tell_attempt"))
        async with working(redis_url, "tests.tasks.emitters"):
            assert (await bench.end(task_id)).attempt == 1
            await bench.queue_is_empty()
        assert await _entries_ever(bench, "emit_many") == 1


async def test_an_entry_in_the_stream_of_another_type_reaches_a_worker_of_its_own(redis_url: str, bench: Bench) -> None:
    task_id = await bench.create("emit_many", count=1)
    await bench.client.execute_command("DEL", bench.keys.ready("default", "emit_many"))
    await bench.client.execute_command("XADD", bench.keys.ready("default", "tell_attempt"), "*", "task", task_id)
    async with working(redis_url, "tests.tasks.awkward"), working(redis_url, "tests.tasks.emitters"):
        assert (await bench.end(task_id)).status is Status.COMPLETED
        await bench.queue_is_empty()


async def test_fewer_slots_than_types_hold_no_task_back(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, concurrency=1):
        task_ids = [
            await bench.create(each, count=1) for each in ("emit_many", "emit_many_in_thread") for _ in range(5)
        ]
        for task_id in task_ids:
            assert (await bench.end(task_id)).status is Status.COMPLETED


async def test_a_duplicate_entry_runs_nothing_twice(redis_url: str, bench: Bench) -> None:
    async with working(redis_url):
        task_id = await bench.create("wait", seconds=0.5)
        for _ in range(3):
            await bench.client.execute_command("XADD", bench.keys.ready("default", "wait"), "*", "task", task_id)
        await bench.end(task_id)
        await bench.queue_is_empty()
    assert await bench.types(task_id) == ["attempt", "waiting", "complete"]


async def test_an_entry_of_an_unknown_task_is_removed(redis_url: str, bench: Bench) -> None:
    async with working(redis_url):
        await bench.client.execute_command("XADD", bench.keys.ready("default", "wait"), "*", "task", "never.created")
        await bench.queue_is_empty()


async def test_a_task_can_be_run_again_the_moment_it_has_ended(redis_url: str, bench: Bench) -> None:
    async with working(redis_url):
        task_id = await bench.create("tell_attempt")
        await bench.end(task_id)
        await bench.store.start(task_id, rerun_of=1)

        async def again() -> bool:
            record = await bench.store.get(task_id)
            return record.attempt == 2 and record.status.is_ended

        await wait_until(again, description="the second run ends")
        await bench.queue_is_empty()
    assert await bench.types(task_id) == ["attempt", "complete", "attempt", "complete"]


def _name_of(worker: WorkerProcess) -> str:
    """What it calls itself, nonce included."""
    ready = next(message for message in worker.messages() if " is ready for " in message)
    return ready.split()[1]


async def _readers(bench: Bench, task_type: str) -> list[str]:
    """Workers that have ever read entries of the type, by their names without the nonce."""
    return [name.rpartition("-")[0] for name in await _consumers(bench, task_type)]


async def _consumers(bench: Bench, task_type: str) -> list[str]:
    found = await bench.client.execute_command("XINFO", "CONSUMERS", bench.keys.ready("default", task_type), "workers")
    return [each[b"name"].decode() for each in found]


async def _entries_ever(bench: Bench, task_type: str) -> int:
    found = await bench.client.execute_command("XINFO", "STREAM", bench.keys.ready("default", task_type))
    return found[b"entries-added"]


async def _running(bench: Bench, task_ids: list[str], count: int) -> bool:
    records = [await bench.store.get(task_id) for task_id in task_ids]
    return [record.status for record in records].count(Status.RUNNING) == count


async def _assert_last_generation_is_whole(bench: Bench, task_id: str) -> None:
    count = (await bench.store.get(task_id)).as_json()["result"]["count"]
    events = await bench.events(task_id)
    last = [event for event in events if event.id.generation == events[-1].id.generation]
    assert [event.id.sequence for event in last] == list(range(count + 2))
    assert [event.type for event in last] == ["attempt", *["number"] * count, "complete"]
