"""What of an ended task goes when, by the settings."""

from __future__ import annotations

from typing import Any

from server.streams.connections import execute
from server.streams.names import task_stream
from tests.support.web import serving
from tests.support.working import Bench, working

MODULES = ("tests.tasks.emitters", "tests.tasks.failing")
HOUR_MS = 3_600_000
SETTINGS: dict[str, Any] = {"retention_seconds": 3600, "result_seconds": 36_000, "dead_letter_seconds": 360_000}


async def hours(bench: Bench, task_id: str) -> tuple[int, int]:
    """How many hours events and record have left, rounded up."""
    names = (bench.keys.log(task_stream(task_id)), bench.keys.record(task_id))
    left = [int(await execute(bench.client, "PTTL", name)) for name in names]
    return -(-left[0] // HOUR_MS), -(-left[1] // HOUR_MS)


async def test_results_and_dead_letters_are_kept_for_as_long_as_the_settings_say_and_events_for_theirs(
    redis_url: str, bench: Bench
) -> None:
    async with working(redis_url, *MODULES, **SETTINGS):
        done, declared = await bench.create("emit_many", count=1), await bench.create("declare_failure")
        dead = await bench.create("fail_until", attempt=9, max_attempts=1)
        for task_id in (done, declared, dead):
            await bench.end(task_id)
        await bench.queue_is_empty()
        assert [await hours(bench, task_id) for task_id in (done, declared, dead)] == [(1, 10), (1, 10), (1, 100)]


async def test_what_a_server_ends_is_kept_as_long(redis_url: str, bench: Bench) -> None:
    async with serving(redis_url, **SETTINGS) as web:
        cancelled, deleted = await bench.create("emit_many", count=1), await bench.create("emit_many", count=1)
        for task_id in (cancelled, deleted):
            await web.client.post(f"/tasks/{task_id}/cancel")
        assert await hours(bench, cancelled) == (1, 10)
        await web.client.delete(f"/tasks/{deleted}")
        assert (await hours(bench, deleted))[1] == 1  # the marker for its readers


async def test_a_dead_letter_that_is_discarded_expires_as_a_result_does(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, *MODULES, **SETTINGS), serving(redis_url, **SETTINGS) as web:
        dead = await bench.create("fail_until", attempt=9, max_attempts=1)
        await bench.end(dead)
        await bench.queue_is_empty()
        assert (await web.client.delete(f"/dead-letters/{dead}")).status_code == 204
        assert await hours(bench, dead) == (1, 10)
