"""Clocks that jump: a worker's own, by which it does not go, and that of Redis, by which all leases run out at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import pytest

from server.streams.connections import AsyncClient, execute, execute_many
from server.streams.records import Status
from tests.model.scripts import MICROSECONDS_KEY, SECONDS_KEY, model_scripts
from tests.support.waiting import wait_until
from tests.support.working import MODULES, Bench, WorkerProcess, working
from workers.renewal import Held
from workers.worker import Worker

HOUR = 3600.0
_TICK_SECONDS = 0.01


class RedisClock:
    """The clock that scripts read instead of Redis' own. It goes on by itself, and jumps when it is told to."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._ahead = 0.0

    @property
    def now_ms(self) -> int:
        return int((time() + self._ahead) * 1000)

    async def tick(self) -> None:
        await execute(self._client, *self._set())

    async def run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(_TICK_SECONDS)

    async def jump(self, seconds: float, *commands: tuple[str, ...]) -> None:
        """Jump, and send commands in the same step."""
        self._ahead += seconds
        await execute_many(self._client, [self._set(), *commands], in_one_step=True)

    def _set(self) -> tuple[str | int, ...]:
        now = self.now_ms
        return "MSET", SECONDS_KEY, now // 1000, MICROSECONDS_KEY, now % 1000 * 1000


@pytest.fixture
async def redis_clock(client: AsyncClient) -> AsyncIterator[RedisClock]:
    clock = RedisClock(client)
    await clock.tick()
    with model_scripts():
        running = asyncio.create_task(clock.run(), name="clock of Redis")
        yield clock
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    await execute(client, "DEL", SECONDS_KEY, MICROSECONDS_KEY)


async def test_a_worker_whose_wall_clock_jumps_by_hours_keeps_its_tasks_and_takes_others(
    redis_url: str, bench: Bench
) -> None:
    modules = (*MODULES, "tests.tasks.clocks", "tests.tasks.failing")
    # No process of a busy machine is kept from renewing for that long.
    with WorkerProcess(redis_url, modules=modules, lease_seconds=4) as worker:
        await worker.says("is ready")
        quiet = await bench.create("wait", seconds=8)
        await bench.has_emitted(quiet, "waiting")
        # Ahead, where every lease and timeout would be over; back, where none would ever be.
        jumping = await bench.create("jump_wall_clock", jumps=[HOUR, -2 * HOUR], numbers=150)
        await bench.has_emitted(jumping, "jumped")
        with WorkerProcess(redis_url, modules=modules, lease_seconds=4) as rival:  # whatever is let go is given to it
            await rival.says("is ready")
            await bench.has_emitted(jumping, "jumped", count=2)
            retried = await bench.create("fail_until", attempt=2)
            for task_id, attempts in ((jumping, 1), (quiet, 1), (retried, 2)):
                record = await bench.end(task_id)
                assert (record.status, record.attempt) == (Status.COMPLETED, attempts)
        first, second = [data["to"] for data in await bench.datas(jumping, "jumped")]
        assert (round((first - time()) / HOUR), round((second - time()) / HOUR)) == (1, -1), "The clock did not jump."
        # The first attempt of the task that is tried again may have failed here; nothing else has.
        assert not [line for line in worker.lines() if "exception" in line and retried not in line["message"]]
    assert [data["number"] for data in await bench.datas(jumping, "number")] == list(range(300))


async def test_a_worker_whose_wall_clock_is_wrong_is_seen_to_be_alive(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, modules=(*MODULES, "tests.tasks.clocks")) as worker:
        await worker.says("is ready")
        await bench.end(await bench.create("jump_wall_clock", jumps=[-HOUR], numbers=1))
        await bench.client.execute_command("DEL", bench.keys.workers)  # it finds that out, and signs on again
        await wait_until(bench.registry.live_workers, description="the worker is listed as alive")
        assert "jump_wall_clock" in [each.name for each in await bench.registry.live_types()]


async def test_every_task_ends_once_though_the_clock_of_redis_jumps_and_all_leases_run_out_at_once(
    redis_url: str, bench: Bench, redis_clock: RedisClock, monkeypatch: pytest.MonkeyPatch, enough: Path
) -> None:
    tasks = 8
    given: dict[str, Any] = {"count": 50, "interval_ms": 20, "until": str(enough)}
    async with working(redis_url, name="owner", concurrency=tasks, lease_seconds=3) as owner:
        renewals = _gate_of_renewals(owner, monkeypatch)
        task_ids = [await bench.create("emit_many", max_attempts=50, **given) for _ in range(tasks)]
        for task_id in task_ids:
            await bench.has_emitted(task_id, "number", count=5)
        async with working(redis_url, name="rival", concurrency=tasks, lease_seconds=3) as rival:
            with renewals:  # none is under way, and none comes before the rival has claimed
                await _jump_until_one_is_taken(bench, redis_clock, task_ids, rival=rival)
            enough.touch()
            for task_id in task_ids:
                assert (await bench.end(task_id)).status is Status.COMPLETED
            await bench.queue_is_empty()
    for task_id in task_ids:
        await _assert_ended_once(bench, task_id)


def _gate_of_renewals(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> threading.Lock:
    """While it is held the worker renews nothing."""
    keeper = worker._shared.keeper
    gate, renew = threading.Lock(), keeper._renew

    def renew_in_turn(everything: Sequence[Held]) -> None:
        with gate:
            renew(everything)

    monkeypatch.setattr(keeper, "_renew", renew_in_turn)
    return gate


async def _jump_until_one_is_taken(bench: Bench, clock: RedisClock, task_ids: list[str], *, rival: Worker) -> None:
    """Jump, have the rival look at every task in the same moment, and wait until it has the first one.

    The others it gets, or the owner, who has room again and renews what is left to it. A rival that a busy machine has
    kept from hearing Redis just then may judge nothing, and soon the owner renews before it writes: so it jumps again.
    """
    stream = bench.keys.ready("default", "emit_many")

    async def one_is_taken() -> bool:
        return any([(await bench.store.get(task_id)).attempt > 1 for task_id in task_ids])

    async with asyncio.timeout(90):
        while not await one_is_taken():
            await wait_until(rival._may_judge_expired, description="the rival may judge leases", timeout=90)
            await clock.jump(HOUR, *[("XADD", stream, "*", "task", task_id) for task_id in task_ids])
            with suppress(AssertionError):
                await wait_until(one_is_taken, description="a task is taken over", timeout=2)


async def _assert_ended_once(bench: Bench, task_id: str) -> None:
    """Runs one behind the other, each without a hole; one end, and it belongs to the last."""
    events = await bench.events(task_id)
    generations = [event.id.generation for event in events]
    assert generations == sorted(generations)
    runs = [[event for event in events if event.id.generation == each] for each in sorted(set(generations))]
    assert len(runs) == (await bench.store.get(task_id)).attempt
    for run in runs:
        assert [event.id.sequence for event in run] == list(range(len(run)))
        assert run[0].type == "attempt"
        assert {event.type for event in run[1:]} <= {"number", "complete"}
    assert [event.type for event in events].count("complete") == 1
    count = (await bench.store.get(task_id)).as_json()["result"]["count"]
    assert [event.type for event in runs[-1]] == ["attempt", *["number"] * count, "complete"]
