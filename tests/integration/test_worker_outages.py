"""Redis away for seconds while tasks run, longer than any command waits: they are not declared dead, nothing is lost.

REPRISE_TEST_OUTAGE_SECONDS=60 makes it a minute. Shorter outages, and those with a loss of data: test_worker_redis.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from time import monotonic

import pytest

from server.streams.connections import connect
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.working import Bench, WorkerProcess

SECONDS = float(os.environ.get("REPRISE_TEST_OUTAGE_SECONDS", "5"))
INTERVAL_MS = 20
#: Above what a busy machine may keep a worker from renewing.
LEASE_SECONDS = 2
#: What the task needs is longer than the outage.
EVENTS = int((SECONDS + 3) * 1000 / INTERVAL_MS)

pytestmark = pytest.mark.timeout(2 * SECONDS + 240)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that keeps its data, and that the test may kill."""
    with RedisServer(keeps_data=True) as server:
        yield server


@pytest.fixture
async def own_bench(own_redis: RedisServer, keys: Keys) -> AsyncIterator[Bench]:
    client = connect(own_redis.url, name="test")
    yield Bench(client, keys)
    await client.aclose()


@pytest.mark.parametrize("way", ["frozen", "killed"])
async def test_an_outage_of_several_leases_costs_no_attempt_and_no_event(
    own_redis: RedisServer, own_bench: Bench, way: str
) -> None:
    with (
        WorkerProcess(own_redis.url, lease_seconds=LEASE_SECONDS) as owner,
        WorkerProcess(own_redis.url, lease_seconds=LEASE_SECONDS) as rival,
    ):
        await owner.says("is ready")
        await rival.says("is ready")
        types = ["emit_many", "emit_many_in_thread"] * 2
        task_ids = [await own_bench.create(each, count=EVENTS, interval_ms=INTERVAL_MS) for each in types]
        for task_id in task_ids:
            await own_bench.has_emitted(task_id, "number", count=10)
        own_redis.pause() if way == "frozen" else own_redis.kill()
        back_at = monotonic() + SECONDS
        # Time is the point: nothing else says that an outage was long.
        await wait_until(lambda: monotonic() > back_at, description="the outage has lasted", timeout=SECONDS + 60)
        own_redis.resume() if way == "frozen" else own_redis.start()
        await own_bench.reconnected()
        for task_id in task_ids:
            record = await own_bench.end(task_id, timeout=SECONDS + 90)
            assert (record.status, record.attempt) == (Status.COMPLETED, 1)
            events = await own_bench.events(task_id)
            assert {event.id.generation for event in events} == {events[0].id.generation}
            assert [event.id.sequence for event in events] == list(range(EVENTS + 2))
            numbers = [data["number"] for data in await own_bench.datas(task_id, "number")]
            assert numbers == list(range(EVENTS))
        for worker in (owner, rival):
            assert worker.process.poll() is None
            assert not [line for line in worker.lines() if "exception" in line]
