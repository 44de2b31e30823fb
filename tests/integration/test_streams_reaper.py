"""The reaper and the registry on a real server: what was lost between two steps is found, what has ended forgotten."""

from __future__ import annotations

import asyncio
import json
from time import time

import pytest

from server.streams import registry as registry_module
from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from server.streams.reaper import Reaper
from server.streams.registry import Registry, TaskType
from server.streams.tasks import NewTask, TaskStore
from tests.support.log_hand import Hand
from tests.support.tasks import queued, reaper_over, store_over
from tests.support.waiting import wait_until


@pytest.fixture
def store(client: AsyncClient, keys: Keys) -> TaskStore:
    return store_over(client, keys)


@pytest.fixture
def reaper(client: AsyncClient, keys: Keys) -> Reaper:
    return reaper_over(client, keys)


async def unfinished(store: TaskStore) -> list[str]:
    return [task_id for task_id, _ in await store.unfinished(limit=1000, offset=0)]


async def indexed(hand: Hand, task_id: str, *, age_seconds: float = 0) -> None:
    await execute(hand.client, "ZADD", hand.keys.unfinished_index, int((time() - age_seconds) * 1000), task_id)


async def test_a_creation_that_died_between_record_and_queue_is_queued_once(hand: Hand, reaper: Reaper):
    await indexed(hand, "a")
    await hand.create("a")
    for _ in range(2):
        await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == ["a"]


async def test_a_creation_that_died_before_its_record_is_forgotten_after_a_minute(
    hand: Hand, reaper: Reaper, store: TaskStore
):
    await indexed(hand, "young")
    await indexed(hand, "old", age_seconds=61)
    await reaper.reap_once()
    assert await unfinished(store) == ["young"]


async def test_a_task_created_without_execution_is_left_alone(hand: Hand, reaper: Reaper, store: TaskStore):
    record = await store.create(NewTask("t", {}, execute=False))
    await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == []
    assert await unfinished(store) == [record.id]


async def test_an_entry_that_redis_lost_is_replaced(hand: Hand, reaper: Reaper, store: TaskStore):
    record = await store.create(NewTask("t", {}))
    await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == [record.id]
    await hand.lose(hand.keys.ready("default", "t"))
    await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == [record.id]


async def test_a_start_that_died_before_the_queue_is_queued(hand: Hand, reaper: Reaper, store: TaskStore):
    record = await store.create(NewTask("t", {}, execute=False))
    await hand.start(record.id)
    await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == [record.id]


async def test_a_running_task_without_lease_or_entry_is_queued_again(hand: Hand, reaper: Reaper):
    await indexed(hand, "a")
    await hand.running("a", lease_ms=0)
    await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == ["a"]


async def test_a_living_task_is_left_to_its_worker(hand: Hand, reaper: Reaper, store: TaskStore):
    await indexed(hand, "a")
    await hand.running("a")
    await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == []
    assert await unfinished(store) == ["a"]


async def test_an_expired_lease_is_not_judged_by_who_was_not_connected_for_a_lease(hand: Hand):
    await indexed(hand, "a")
    await hand.running("a", lease_ms=0)
    await reaper_over(hand.client, hand.keys, may_judge=False).reap_once()
    assert await queued(hand.client, hand.keys) == []


async def test_a_task_that_is_put_off_keeps_its_place_or_gets_it_back(hand: Hand, reaper: Reaper, store: TaskStore):
    record = await store.create(NewTask("t", {}))
    await hand.lose(hand.keys.ready("default", "t"))
    await hand.claimed(record.id)
    await hand.retry(record.id)
    for _ in range(2):
        await reaper.reap_once()
        assert await execute(hand.client, "ZRANGE", hand.keys.delayed("default"), 0, -1) == [f"t/{record.id}".encode()]
    assert await queued(hand.client, hand.keys) == []


async def test_a_task_that_waits_for_days_is_kept_and_one_that_nobody_asked_to_run_expires(
    hand: Hand, reaper: Reaper, store: TaskStore
):
    waiting, idle, young = [
        await store.create(NewTask("t", {}, execute=execute_it)) for execute_it in (True, False, True)
    ]
    tried = await store.create(NewTask("t", {}))
    await hand.claimed(tried.id)
    await hand.retry(tried.id)
    logs = [hand.keys.log(f"tasks.{tried.id}")]
    records = [hand.keys.record(each.id) for each in (waiting, idle, young, tried)]
    for name in records + logs:
        await execute(hand.client, "PEXPIRE", name, 60_000)
    for record in (waiting, idle, tried):
        await hand.amend(record.id, updated_at=str(int((time() - 90_000) * 1000)))
    await reaper.reap_once()
    left = [await execute(hand.client, "PTTL", name) > 60_000 for name in records + logs]
    assert left == [True, False, False, True, True]


async def test_a_cancelled_task_whose_worker_is_gone_is_ended_by_the_reaper(hand: Hand, reaper: Reaper):
    await indexed(hand, "a")
    await hand.running("a", lease_ms=60_000)
    await hand.settle("a")
    await execute(hand.client, "HSET", hand.keys.record("a"), "lease_until", 1)
    await reaper.reap_once()
    assert (await hand.fields("a"))["status"] == "cancelled"


async def test_a_task_that_waits_although_it_was_cancelled_is_ended_by_the_reaper_and_forgotten(
    hand: Hand, reaper: Reaper, store: TaskStore
):
    await indexed(hand, "a")
    await hand.create("a")
    await hand.amend("a", cancel="0")
    await reaper.reap_once()
    assert (await hand.fields("a"))["status"] == "cancelled"
    assert await unfinished(store) == []


async def test_a_task_with_no_attempt_left_and_no_worker_to_see_it_is_a_dead_letter_once(
    hand: Hand, reaper: Reaper, store: TaskStore
):
    await indexed(hand, "a")
    await hand.create("a", max_attempts="1")
    await hand.claimed("a", lease_ms=0)
    for _ in range(2):
        await reaper.reap_once()
    assert await execute(hand.client, "ZRANGE", hand.keys.dead_index, 0, -1) == [b"a"]
    assert await unfinished(store) == []


async def test_a_task_that_is_run_again_while_it_is_forgotten_stays_looked_after(
    hand: Hand, reaper: Reaper, store: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    await indexed(hand, "a")
    await hand.ended("a")
    forget = reaper._store.forget_unfinished

    async def forget_late(task_id: str) -> None:
        await store.start("a", rerun_of=1)
        await forget(task_id)

    monkeypatch.setattr(reaper._store, "forget_unfinished", forget_late)
    await reaper.reap_once()
    assert await unfinished(store) == ["a"]


async def test_a_lost_task_is_found_by_the_clock_of_redis_though_that_of_the_server_is_behind(
    hand: Hand, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.streams.reaper.time", lambda: time() - 3600)
    await indexed(hand, "a")
    await hand.create("a", max_attempts="1")
    await hand.claimed("a", lease_ms=0)
    await reaper.reap_once()
    assert (await hand.fields("a"))["status"] == "failed"


async def test_ended_and_deleted_tasks_are_forgotten_and_the_others_kept_over_many_pages(
    hand: Hand, reaper: Reaper, store: TaskStore
):
    for number in range(250):
        await hand.create(f"t{number}")
        await indexed(hand, f"t{number}")
        if number % 2:
            await hand.settle(f"t{number}")
        if number % 10 == 1:
            await hand.delete(f"t{number}")
    await reaper.reap_once()
    assert sorted(await unfinished(store)) == sorted(f"t{number}" for number in range(0, 250, 2))
    assert sorted(await queued(hand.client, hand.keys)) == sorted(f"t{number}" for number in range(0, 250, 2))


async def told(hand: Hand, stream: str) -> list[tuple[str, str]]:
    """Types and statuses announced on a stream."""
    return [(event.type, json.loads(event.data)["status"]) for event in await hand.log(stream)]


async def test_an_end_that_nobody_told_of_is_announced_once(hand: Hand, reaper: Reaper):
    """Whoever ended it died, or missed the reply, before it told anybody."""
    await hand.create("a")
    await hand.settle("a")
    for _ in range(2):
        await indexed(hand, "a")
        await reaper.reap_once()
    assert await told(hand, "tasks") == [("task_update", "cancelled")]
    assert await told(hand, "system") == [("task_completed", "cancelled")]


async def test_an_end_that_was_told_is_not_announced_again(hand: Hand, reaper: Reaper, store: TaskStore):
    await store.cancel((await store.create(NewTask("t", {}))).id)
    before = [await told(hand, stream) for stream in ("tasks", "system")]
    await reaper.reap_once()
    assert [await told(hand, stream) for stream in ("tasks", "system")] == before
    assert await unfinished(store) == []


async def test_an_ended_task_is_not_forgotten_before_readers_could_be_told(
    hand: Hand, reaper: Reaper, store: TaskStore
):
    await indexed(hand, "a")
    await hand.create("a")
    await hand.settle("a")
    await execute(hand.client, "SET", hand.keys.log("system"), "no stream", "PX", 60_000)
    await reaper.reap_once()
    assert await unfinished(store) == ["a"]
    await hand.lose(hand.keys.log("system"))
    await reaper.reap_once()
    assert await told(hand, "system") == [("task_completed", "cancelled")]
    assert await unfinished(store) == []


async def test_the_reaper_goes_round_by_itself_and_survives_an_outage(hand: Hand, caplog: pytest.LogCaptureFixture):
    await execute(hand.client, "SET", hand.keys.unfinished_index, "no sorted set", "PX", 60_000)
    running = asyncio.create_task(reaper_over(hand.client, hand.keys, interval_seconds=0.02).run())
    await wait_until(lambda: "The reaper waits" in caplog.text, description="a round has failed")
    await hand.lose(hand.keys.unfinished_index)
    await indexed(hand, "a")
    await hand.create("a")

    async def is_queued() -> bool:
        return await queued(hand.client, hand.keys) == ["a"]

    await wait_until(is_queued, description="the task is queued")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# Registry.


SUM = TaskType("sum", "Adds.", {"type": "object"}, 5)
WAIT = TaskType("wait", "Waits.", {"type": "object"})


@pytest.fixture
def registry(client: AsyncClient, keys: Keys) -> Registry:
    return Registry(client, keys)


async def age(hand: Hand, key: str, name: str, seconds: float) -> None:
    """Make an entry as old as that."""
    raw: dict[bytes, bytes] = await execute(hand.client, "HGETALL", key)
    found = json.loads(raw[name.encode()])
    await execute(hand.client, "HSET", key, name, json.dumps(found | {"seen": time() - seconds}))


async def test_what_live_workers_offer_is_listed_by_name(registry: Registry):
    await registry.heartbeat("one", [WAIT, SUM], details={"pid": 1})
    await registry.heartbeat("two", [SUM], details={})
    assert await registry.live_types() == [SUM, WAIT]
    assert set(await registry.live_workers()) == {"one", "two"}
    assert (await registry.live_workers())["one"]["pid"] == 1


async def test_a_worker_that_left_or_went_silent_offers_nothing(registry: Registry, hand: Hand):
    await registry.heartbeat("one", [WAIT], details={})
    await registry.heartbeat("two", [SUM], details={})
    await registry.leave("one")
    assert await registry.live_types() == [SUM]
    await age(hand, hand.keys.workers, "two", registry_module.HEARTBEAT_SECONDS * 3 + 1)
    assert await registry.live_types() == []


async def test_a_type_stays_known_while_no_worker_lives(registry: Registry):
    await registry.heartbeat("one", [SUM], details={})
    await registry.leave("one")
    assert await registry.known_type("sum") == SUM
    assert await registry.known_type("never") is None


async def test_workers_long_gone_are_forgotten_and_both_hashes_expire(registry: Registry, hand: Hand):
    await registry.heartbeat("one", [SUM], details={})
    await registry.heartbeat("two", [SUM], details={})
    await age(hand, hand.keys.workers, "one", 90_000)
    assert set(await registry.live_workers()) == {"two"}
    await registry.forget_gone()
    assert await execute(hand.client, "HKEYS", hand.keys.workers) == [b"two"]
    for key in (hand.keys.workers, hand.keys.types):
        assert 0 < await execute(hand.client, "TTL", key) <= 86_400


async def test_a_worker_without_types_is_seen_all_the_same(registry: Registry):
    await registry.heartbeat("one", [], details={})
    assert set(await registry.live_workers()) == {"one"}
    assert await registry.live_types() == []


async def test_a_task_of_which_redis_refuses_something_keeps_the_reaper_from_no_other(
    hand: Hand, reaper: Reaper, store: TaskStore, caplog: pytest.LogCaptureFixture, lasting_keys: set[str]
):
    lasting_keys.add(hand.keys.record("bad"))
    await indexed(hand, "bad", age_seconds=90)
    await execute(hand.client, "SET", hand.keys.record("bad"), "not a hash", "EX", "60")
    await indexed(hand, "good")
    await hand.create("good")
    for _ in range(3):
        await reaper.reap_once()
    assert await queued(hand.client, hand.keys) == ["good"]
    assert set(await unfinished(store)) == {"bad", "good"}
    told = [each.message for each in caplog.records if each.levelname == "ERROR"]
    assert len(told) == 1
    assert "Task bad cannot be looked after: Redis refused: WRONGTYPE" in told[0]
