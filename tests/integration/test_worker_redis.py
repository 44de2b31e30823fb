"""Redis lost, emptied, frozen or away while tasks run: what the worker puts back, and that it waits and says so."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic

import pytest

from server.streams.connections import connect
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.working import Bench, WorkerProcess, working

#: Where there is a rival: above what a busy machine may keep the owner of a task from renewing.
LEASE_SECONDS = 2.0


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


async def test_a_log_that_is_deleted_in_mid_task_is_written_back(redis_url: str, bench: Bench, enough: Path) -> None:
    async with working(redis_url):
        task_id = await bench.create("emit_many", count=60, interval_ms=20, until=str(enough))
        await bench.has_emitted(task_id, "number", count=20)
        await bench.client.execute_command("DEL", bench.keys.log(f"tasks.{task_id}"))
        enough.touch()
        assert (await bench.end(task_id)).attempt == 1
    await _assert_whole(bench, task_id)


async def test_the_log_of_a_quiet_task_is_written_back_too(redis_url: str, bench: Bench) -> None:
    async with working(redis_url):
        task_id = await bench.create("wait")
        await bench.has_emitted(task_id, "waiting")
        await bench.client.execute_command("DEL", bench.keys.log(f"tasks.{task_id}"))
        await bench.has_emitted(task_id, "waiting")
        assert await bench.types(task_id) == ["attempt", "waiting"]


@pytest.mark.parametrize("task_type", ["emit_many", "emit_many_in_thread"])
async def test_a_task_survives_an_emptied_redis_with_record_log_and_index(
    redis_url: str, bench: Bench, enough: Path, task_type: str
) -> None:
    async with working(redis_url):
        task_id = await bench.create(task_type, count=80, interval_ms=25, until=str(enough))
        await bench.has_emitted(task_id, "number", count=20)
        before = await bench.store.get(task_id)
        await bench.client.execute_command("FLUSHALL")
        enough.touch()
        record = await bench.end(task_id)
        assert (record.status, record.attempt, record.input) == (Status.COMPLETED, 1, before.input)
        assert task_id in [each.id for each in (await bench.store.list(status=None, task_type=None, limit=10)).tasks]
        # New work is taken again: the consumer group was lost as well.
        assert (await bench.end(await bench.create("tell_attempt"))).status is Status.COMPLETED
    await _assert_whole(bench, task_id)


async def test_a_worker_offers_its_types_again_when_redis_was_emptied(
    redis_url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.worker.HEARTBEAT_SECONDS", 3600)  # the next one would not be seen
    async with working(redis_url, "tests.tasks.emitters"):
        await bench.client.execute_command("FLUSHALL")
        assert await bench.registry.is_empty()
        await wait_until(bench.registry.live_types, description="its types are offered")


async def test_a_quiet_task_survives_an_emptied_redis(redis_url: str, bench: Bench) -> None:
    async with working(redis_url):
        task_id = await bench.create("wait")
        await bench.has_emitted(task_id, "waiting")
        await bench.client.execute_command("FLUSHALL")
        await wait_until(lambda: bench.store.find(task_id), description="the record is written back")
        assert [each[0] for each in await bench.store.unfinished(limit=10, offset=0)] == [task_id]
        await bench.store.cancel(task_id)
        assert (await bench.end(task_id)).attempt == 1
    assert await bench.types(task_id) == ["attempt", "waiting", "cancelled"]


async def test_a_redis_killed_in_mid_task_and_restarted_with_its_data_costs_no_event(
    own_redis: RedisServer, own_bench: Bench, enough: Path
) -> None:
    async with working(own_redis.url):
        task_id = await own_bench.create("emit_many", count=100, interval_ms=20, until=str(enough))
        await own_bench.has_emitted(task_id, "number", count=20)
        own_redis.restart()
        await own_bench.reconnected()
        enough.touch()
        record = await own_bench.end(task_id)
        await own_bench.queue_is_empty()
    assert (record.status, record.attempt) == (Status.COMPLETED, 1)
    await _assert_whole(own_bench, task_id)


async def test_a_redis_away_for_longer_than_the_lease_costs_no_attempt(
    own_redis: RedisServer, own_bench: Bench
) -> None:
    with (
        WorkerProcess(own_redis.url, lease_seconds=LEASE_SECONDS) as owner,
        WorkerProcess(own_redis.url, lease_seconds=LEASE_SECONDS) as rival,
    ):
        await owner.says("is ready")
        await rival.says("is ready")
        task_ids = [await own_bench.create("emit_many", count=250, interval_ms=20) for _ in range(4)]
        for task_id in task_ids:
            await own_bench.has_emitted(task_id, "number", count=10)
        own_redis.kill()
        await owner.says("Leases cannot be renewed")
        await wait_for_seconds(2 * LEASE_SECONDS)
        own_redis.start()
        await own_bench.reconnected()
        for task_id in task_ids:
            record = await own_bench.end(
                task_id,
            )
            assert (record.status, record.attempt) == (Status.COMPLETED, 1)
            await _assert_whole(own_bench, task_id)


async def test_a_redis_frozen_for_longer_than_the_lease_costs_no_attempt(
    own_redis: RedisServer, own_bench: Bench
) -> None:
    # Nobody's connection breaks: only silence tells the rival that it may not judge.
    with (
        WorkerProcess(own_redis.url, lease_seconds=LEASE_SECONDS) as owner,
        WorkerProcess(own_redis.url, lease_seconds=LEASE_SECONDS) as rival,
    ):
        await owner.says("is ready")
        await rival.says("is ready")
        task_ids = [await own_bench.create("emit_many", count=200, interval_ms=20) for _ in range(4)]
        for task_id in task_ids:
            await own_bench.has_emitted(task_id, "number", count=10)
        own_redis.pause()
        await wait_for_seconds(2 * LEASE_SECONDS)
        own_redis.resume()
        for task_id in task_ids:
            record = await own_bench.end(
                task_id,
            )
            assert (record.status, record.attempt) == (Status.COMPLETED, 1)
            await _assert_whole(own_bench, task_id)


async def test_a_worker_that_starts_before_redis_waits_says_so_once_and_goes_on(
    own_redis: RedisServer, own_bench: Bench
) -> None:
    own_redis.kill()
    with WorkerProcess(own_redis.url) as worker:
        await worker.says("waits for Redis")
        own_redis.start()
        await own_bench.reconnected()
        await worker.says("is ready")
        await own_bench.end(await own_bench.create("tell_attempt"))
        own_redis.restart()
        await worker.says("Redis is back")
        await own_bench.reconnected()
        await own_bench.end(await own_bench.create("tell_attempt"))
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0
        waits = [message for message in worker.messages() if "waits for Redis" in message]
        assert ["REPRISE_REDIS_URL" in message for message in waits] == [True, False], worker.messages()
        assert not [line for line in worker.lines() if "exception" in line]


async def wait_for_seconds(seconds: float) -> None:
    """Time passing is the point here: there is no condition that says a lease has run out with Redis away."""
    ends = monotonic() + seconds
    await wait_until(lambda: monotonic() > ends, description="time passes", timeout=seconds + 60)


async def _assert_whole(bench: Bench, task_id: str) -> None:
    """One generation, contiguous, with every number once; what is older than the writer's memory was not lost here."""
    count = (await bench.store.get(task_id)).as_json()["result"]["count"]
    events = await bench.events(task_id)
    assert {event.id.generation for event in events} == {events[0].id.generation}
    assert [event.id.sequence for event in events] == list(range(count + 2))
    assert [data["number"] for data in await bench.datas(task_id, "number")] == list(range(count))
