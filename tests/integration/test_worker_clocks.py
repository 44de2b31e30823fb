"""Clocks that jump: a worker's own, by which it does not go."""

from __future__ import annotations

from tests.support.waiting import wait_until
from tests.support.working import MODULES, Bench, WorkerProcess

HOUR = 3600.0


async def test_a_worker_whose_wall_clock_is_wrong_is_seen_to_be_alive(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, modules=(*MODULES, "tests.tasks.clocks")) as worker:
        await worker.says("is ready")
        await bench.end(await bench.create("jump_wall_clock", jumps=[-HOUR], numbers=1))
        await bench.client.execute_command("DEL", bench.keys.workers)  # it finds that out, and signs on again
        await wait_until(bench.registry.live_workers, description="the worker is listed as alive", timeout=5)
        assert "jump_wall_clock" in [each.name for each in await bench.registry.live_types()]
