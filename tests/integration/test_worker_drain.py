"""Workers that are told to stop: what they finish, what they hand back, and how they leave."""

import signal
from pathlib import Path

import pytest

from server.streams.connections import execute
from server.streams.records import Status
from tests.support.fault_proxy import FaultProxy
from tests.support.waiting import wait_until
from tests.support.working import Bench, WorkerProcess, working
from tests.tasks.awkward import leaving, may_end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_told_to_stop_finishes_what_it_runs(
    redis_url: str, bench: Bench, number: signal.Signals
) -> None:
    with WorkerProcess(redis_url) as worker:
        await worker.says("is ready")
        task_id = await bench.create("emit_many", count=50, interval_ms=20)
        await bench.has_emitted(task_id, "number", count=5)
        worker.send(number)
        assert await worker.ends() == 0
        assert not [line for line in worker.lines() if "exception" in line]
    record = await bench.store.get(task_id)
    assert (record.status, record.attempt) == (Status.COMPLETED, 1)
    assert await bench.queue_length() == 0
    assert await bench.registry.live_workers() == {}


async def test_what_a_drain_cannot_finish_is_handed_to_another_worker_at_once(
    redis_url: str, bench: Bench, enough: Path
) -> None:
    # With a lease this long only a task that was handed back is run again in time, and costs no attempt.
    with WorkerProcess(redis_url, drain_seconds=0.2, lease_seconds=3600) as worker:
        await worker.says("is ready")
        task_id = await bench.create("emit_many", max_attempts=1, count=1, interval_ms=20, until=str(enough))
        in_thread = await bench.create("watch_cancelled", max_attempts=1)
        await bench.has_emitted(task_id, "number")
        await bench.has_emitted(in_thread, "waiting")
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0
    assert (await bench.store.get(task_id)).status is Status.PENDING
    assert await bench.pending() == 0
    enough.touch()
    async with working(redis_url, lease_seconds=3600):
        record = await bench.end(task_id)
        assert (record.status, record.attempt) == (Status.COMPLETED, 2)
        await bench.has_emitted(in_thread, "waiting", count=2)
        await bench.store.cancel(in_thread)
        await bench.end(in_thread)
    attempts = await bench.datas(task_id, "attempt")
    assert [each["reason"] for each in attempts] == ["started", "worker_lost"]


async def test_a_cancel_that_comes_while_a_task_is_handed_back_ends_it(redis_url: str, bench: Bench) -> None:
    async with FaultProxy(redis_url) as proxy:
        async with working(proxy.url, lease_seconds=3600):
            task_id = await bench.create("wait")
            await bench.has_emitted(task_id, "waiting")
            cancelled = proxy.lose_request("release", meanwhile=lambda: bench.store.cancel(task_id))
        assert cancelled.is_set()
    assert (await bench.store.get(task_id)).status is Status.CANCELLED
    assert await bench.types(task_id) == ["attempt", "waiting", "cancelled"]
    assert (await bench.updates(task_id))[-1]["status"] == "cancelled"
    assert await bench.queue_length() == 0


async def test_a_task_cancelled_while_its_function_leaves_is_cancelled_also_where_it_must_not_run_twice(
    redis_url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It may take its time.
    monkeypatch.setattr("workers.attempt._HAND_BACK_GRACE_SECONDS", 60)
    monkeypatch.setattr("workers.worker._HAND_BACK_SECONDS", 60)
    async with working(redis_url, lease_seconds=3600) as worker:
        task_id = await bench.create("leave_slowly", on_worker_lost="fail")
        await bench.has_emitted(task_id, "waiting")
        worker.stop()
        await wait_until(lambda: task_id in leaving, description="the function is told to leave")
        await bench.store.cancel(task_id)
        may_end.add(task_id)
    assert (await bench.store.get(task_id)).status is Status.CANCELLED


async def test_a_task_whose_hand_back_is_not_answered_is_put_back_all_the_same(redis_url: str, bench: Bench) -> None:
    async with FaultProxy(redis_url) as proxy:
        async with working(proxy.url, lease_seconds=3600):
            task_id = await bench.create("wait")
            await bench.has_emitted(task_id, "waiting")
            lost = proxy.lose_reply("release")
        assert lost.is_set()
    record = await bench.store.get(task_id)
    assert (record.status, record.spent) == (Status.PENDING, 0)
    assert (await bench.queue_length(), await bench.pending()) == (1, 0)


async def test_a_task_that_is_handed_back_to_an_emptied_redis_is_not_lost(redis_url: str, bench: Bench) -> None:
    # With a lease this long no renewal sees the loss in time.
    async with FaultProxy(redis_url) as proxy:
        async with working(proxy.url, lease_seconds=3600):
            task_id = await bench.create("wait")
            await bench.has_emitted(task_id, "waiting")
            lost = proxy.lose_request("release", meanwhile=lambda: execute(bench.client, "FLUSHALL"))
        assert lost.is_set()
    assert (await bench.store.get(task_id)).status is Status.PENDING
    assert [each for each, _ in await bench.store.unfinished(limit=10, offset=0)] == [task_id]
    async with working(redis_url, lease_seconds=3600):
        await bench.has_emitted(task_id, "waiting", count=2)
        record = await bench.store.cancel(task_id)
        assert (record.attempt, record.spent) == (2, 1)
        await bench.end(task_id)
    assert await bench.types(task_id) == ["attempt", "waiting", "attempt", "waiting", "cancelled"]


async def test_a_second_signal_hands_back_without_waiting(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, drain_seconds=3600) as worker:
        await worker.says("is ready")
        task_id = await bench.create("wait")
        await bench.has_emitted(task_id, "waiting")
        worker.send(signal.SIGTERM)
        await worker.says("Finishing 1 task")
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0
    assert (await bench.store.get(task_id)).status is Status.PENDING


async def test_a_function_that_will_not_stop_does_not_keep_the_process(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, drain_seconds=0.1) as worker:
        await worker.says("is ready")
        task_id = await bench.create("ignore_cancellation")
        await bench.has_emitted(task_id, "still.here")
        worker.send(signal.SIGTERM)
        assert await worker.ends(timeout=40) == 0
    assert (await bench.store.get(task_id)).status is Status.PENDING


async def test_an_idle_worker_leaves_without_waiting_and_takes_its_consumer_along(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, drain_seconds=3600) as worker:
        await worker.says("is ready")
        await bench.end(await bench.create("tell_attempt"))
        assert await _consumers(bench) == 1
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0
        assert sum("is ready" in message for message in worker.messages()) == 1
    assert await _consumers(bench) == 0


async def test_a_worker_told_to_stop_while_redis_is_away_leaves_in_time(redis_url: str) -> None:
    with WorkerProcess("redis://127.0.0.1:1/0") as worker:
        await worker.says("waits for Redis")
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0
        assert not [line for line in worker.lines() if "exception" in line]


async def _consumers(bench: Bench) -> int:
    found = await bench.client.execute_command(
        "XINFO", "CONSUMERS", bench.keys.ready("default", "tell_attempt"), "workers"
    )
    return len(found)
