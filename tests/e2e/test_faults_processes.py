"""Redis, a worker or a server dies in the middle of a task, or is not there to begin with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import httpx
import pytest

from tests.e2e.product import Product, product, record_key
from tests.e2e.reader import Reader, assert_whole, following
from tests.support.http import http_client
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

LEASE_SECONDS = 4.0
SETTINGS = {"REPRISE_LEASE_SECONDS": str(LEASE_SECONDS), "REPRISE_SWEEP_SECONDS": "0.5"}


async def test_redis_is_killed_and_comes_back_with_its_data_and_no_event_is_missing(tmp_path: Path, enough: Path):
    async with product(tmp_path, settings=SETTINGS) as found:
        task_id = await found.start_task("emit_many", count=300, interval_ms=10, until=str(enough))
        staying, returning = (Reader(found.url, f"/tasks/{task_id}/events") for _ in range(2))
        returning.drop_after = 0.3
        async with following(staying) as stayed, following(returning) as returned:
            await staying.has(100)
            found.redis.kill()
            await wait_until(lambda: not_ready(found), description="readiness is red")
            assert await found.servers[0].health("live") == 200
            found.redis.start()
            enough.touch()
            await asyncio.gather(stayed, returned)
        await found.servers[0].ready()
        emitted = found.emitted_in_all(task_id)
        for reader in (staying, returning):
            assert_whole(reader.events, emitted=emitted)
            assert set(reader.statuses[:-1]) <= {200}


async def test_redis_is_away_longer_than_a_lease_and_no_task_is_declared_dead(tmp_path: Path, enough: Path):
    async with product(tmp_path, workers=2, settings=SETTINGS) as found:
        task_id = await found.start_task("emit_many", count=300, interval_ms=10, until=str(enough))
        reader = Reader(found.url, f"/tasks/{task_id}/events")
        async with following(reader) as followed:
            await reader.has(50)
            found.redis.kill()
            gone_at = monotonic()
            # Time is the point: there is nobody who could say that the lease has run out.
            await wait_until(lambda: monotonic() > gone_at + LEASE_SECONDS + 1, description="the lease has run out")
            found.redis.start()
            enough.touch()
            await followed
        assert_whole(reader.events, emitted=found.emitted_in_all(task_id))
        assert (await found.task(task_id))["attempt"] == 1


async def test_a_server_that_starts_without_redis_says_so_and_recovers_by_itself(tmp_path: Path):
    async with product(tmp_path, workers=0) as found:
        found.redis.kill()
        server = found.add_server()
        await server.start()
        await wait_until(
            lambda: "Redis cannot be reached, trying again" in server.text, description="it says so", timeout=60
        )
        assert await server.health("live") == 200
        assert await server.health("ready") == 503
        stream, refused = await ask(server.url)
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream")
        assert stream.text.startswith("retry: ")
        assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (503, True)
        pid = server.pid
        found.redis.start()
        await server.ready()
        assert (server.pid, "Redis answers now" in server.text) == (pid, True)


async def ask(url: str) -> tuple[httpx.Response, httpx.Response]:
    """An EventSource's answer, and that to somebody who would start a task."""
    async with http_client(url, timeout=30) as http:
        stream = await http.get("/tasks/stream", headers={"accept": "text/event-stream"})
        return stream, await http.post("/tasks", json={"type": "countdown"})


async def test_a_killed_worker_is_followed_by_another_and_readers_are_told(tmp_path: Path, enough: Path):
    async with product(tmp_path, workers=2, settings=SETTINGS) as found:
        task_id = await found.start_task("emit_many", count=200, interval_ms=30, until=str(enough))
        reader = Reader(found.url, f"/tasks/{task_id}/events")
        async with following(reader) as followed:
            await reader.has(50)
            await found.runner(task_id).kill()
            enough.touch()
            await followed
        at = reader.types.index("attempt", 1)
        assert {key: reader.events[at].data[key] for key in ("attempt", "reason")} == {
            "attempt": 2,
            "reason": "worker_lost",
        }
        first = [event for event in reader.events[:at] if event.type != "stalled"]
        assert [event.sequence for event in first] == list(range(len(first)))
        assert_whole(reader.events[at:], emitted=200)
        assert (await found.task(task_id))["attempt"] == 2


async def test_a_task_outlives_every_server(tmp_path: Path, enough: Path):
    async with product(tmp_path, settings=SETTINGS) as found:
        task_id = await found.start_task("emit_many", count=200, interval_ms=20, until=str(enough))
        reader = Reader(found.url, f"/tasks/{task_id}/events")
        async with following(reader) as followed:
            await reader.has(50)
            await found.servers[0].kill()
            enough.touch()
            await wait_until(lambda: has_ended(found, task_id), description="the task has ended", timeout=60)
            await found.servers[0].start()
            await followed
        assert_whole(reader.events, emitted=found.emitted_in_all(task_id))


def has_ended(found: Product, task_id: str) -> bool:
    """By its record, for there is no server to ask."""
    return found.redis.command("HGET", record_key(task_id), "status") == b"completed"


async def not_ready(found: Product) -> bool:
    return await found.servers[0].health() == 503
