"""Tasks that were put off when they were created: by Redis' clock, promoted once, and never lost between two steps."""

from __future__ import annotations

import asyncio
from time import time

import pytest

from server.streams import new_task as new_task_module
from server.streams import tasks as tasks_module
from server.streams.connections import AsyncClient, connect, execute, run
from server.streams.delayed import due_at_ms, due_call, promote_call, promote_due
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.records import Status
from server.streams.tasks import NewTask, TaskStore
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import Hand
from tests.support.tasks import queued, reaper_over, store_over
from tests.support.waiting import wait_until
from tests.support.working import Bench, working


@pytest.fixture
def store(client: AsyncClient, keys: Keys) -> TaskStore:
    return store_over(client, keys)


async def redis_ms(client: AsyncClient) -> int:
    seconds, microseconds = await execute(client, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


async def due(client: AsyncClient, keys: Keys) -> bool:
    return bool((await run(client, due_call(keys, "default", limit=1))).members)


async def test_the_time_counts_by_the_clock_of_redis_and_of_nobody_else(
    store: TaskStore, hand: Hand, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    for module in (tasks_module, new_task_module):
        monkeypatch.setattr(module, "time", lambda: time() - 86_400)  # whoever creates it is a day behind
    before = await redis_ms(hand.client)
    record = await store.create(NewTask("t", {}, delay_ms=5000))
    assert before + 5000 <= record.not_before_ms <= await redis_ms(hand.client) + 5000
    assert await due_at_ms(hand.client, keys, record) == record.not_before_ms
    assert (await hand.claim(record.id)).not_before_ms == record.not_before_ms


async def test_the_record_of_a_delayed_task_outlives_its_delay(store: TaskStore, hand: Hand):
    month_ms = 31 * 86_400_000
    record = await store.create(NewTask("t", {}, delay_ms=month_ms))
    assert await execute(hand.client, "PTTL", hand.keys.record(record.id)) > month_ms


async def test_two_workers_that_promote_the_same_task_queue_it_once(
    store: TaskStore, hand: Hand, keys: Keys, redis_url: str
):
    records = [await store.create(NewTask("t", {}, delay_ms=1)) for _ in range(20)]
    await wait_until(lambda: due(hand.client, keys), description="they are due")
    replicas = [connect(redis_url, name=name) for name in ("one", "two")]
    await asyncio.gather(*[promote_due(each, keys, "default") for each in replicas])
    for each in replicas:
        await each.aclose()
    assert sorted(await queued(hand.client, keys)) == sorted(record.id for record in records)


@pytest.mark.parametrize(("lost", "skip"), [("create", 0), ("ZADD", 2)])  # the third ZADD is the delayed set's
@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
async def test_a_delayed_creation_that_died_at_a_step_is_finished_by_asking_again_or_by_the_reaper(
    redis_url: str, keys: Keys, hand: Hand, lost: str, skip: int, fault: str
):
    async with FaultProxy(redis_url) as proxy:
        client = connect(proxy.url, name="test")
        store = store_over(client, keys)
        getattr(proxy, fault)(lost, skip=skip)
        with pytest.raises(LogUnavailable):
            await store.create(NewTask("t", {}, delay_ms=60_000), idempotency_key="key")
        record = await store.create(NewTask("t", {}, delay_ms=60_000), idempotency_key="key")
        await client.aclose()
    assert await due_at_ms(hand.client, keys, record) == record.not_before_ms
    await hand.lose(keys.delayed("default"))
    await reaper_over(hand.client, keys).reap_once()
    assert await due_at_ms(hand.client, keys, record) == record.not_before_ms
    assert await queued(hand.client, keys) == []


async def test_a_start_that_died_before_the_queue_does_not_wait_for_the_old_time(
    store: TaskStore, hand: Hand, keys: Keys
):
    record = await store.create(NewTask("t", {}, delay_ms=60_000))
    await hand.start(record.id)  # the record says "now", the delayed set does not know
    await reaper_over(hand.client, keys).reap_once()
    assert (await queued(hand.client, keys), await due_at_ms(hand.client, keys, record)) == ([record.id], None)
    assert (await hand.claim(record.id)).outcome == "claimed"


async def test_a_worker_runs_a_delayed_task_when_its_time_has_come_and_not_before(redis_url: str, bench: Bench):
    async with working(redis_url):
        record = await bench.store.create(NewTask("emit_many", {"count": 1}, delay_ms=400))
        ended = await bench.end(record.id)
        [attempt] = [event for event in await bench.events(record.id) if event.type == "attempt"]
    assert ended.status is Status.COMPLETED
    assert attempt.id.generation >= record.not_before_ms
    await bench.queue_is_empty()


async def test_a_worker_that_dies_between_promotion_and_claim_loses_nothing(redis_url: str, bench: Bench):
    record = await bench.store.create(NewTask("emit_many", {"count": 1}, delay_ms=1))
    await wait_until(lambda: due(bench.client, bench.keys), description="it is due")
    # As a worker that dies behind the script: the record does not know of the entry.
    await run(bench.client, promote_call(bench.keys, "default", "emit_many", [record.id]))
    assert "queue_entry" not in (await bench.store.get(record.id)).values
    async with working(redis_url):
        assert (await bench.end(record.id)).status is Status.COMPLETED
        await bench.queue_is_empty()
    assert await bench.types(record.id) == ["attempt", "number", "complete"]


async def test_a_delayed_task_survives_a_restart_of_every_worker(redis_url: str, bench: Bench):
    async with working(redis_url):
        record = await bench.store.create(NewTask("emit_many", {"count": 1}, delay_ms=4000))
    assert (await bench.store.get(record.id)).status is Status.PENDING
    async with working(redis_url):
        assert (await bench.end(record.id)).attempt == 1
        await bench.queue_is_empty()
