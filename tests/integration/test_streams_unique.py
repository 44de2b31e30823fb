"""Unique keys on a real server: one task at a time whatever happens at once, and free again after every end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from server.streams.connections import AsyncClient, connect, execute
from server.streams.dead_letters import DeadLetters
from server.streams.errors import Conflict, LogUnavailable
from server.streams.keys import Keys
from server.streams.records import Status, TaskRecord
from server.streams.tasks import NewTask, TaskStore
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import LIFETIMES, Hand
from tests.support.tasks import queued, reaper_over, store_over

NEW = NewTask("t", {"n": 1}, unique_key="k")


@pytest.fixture
def store(client: AsyncClient, keys: Keys) -> TaskStore:
    return store_over(client, keys)


async def alive(store: TaskStore) -> list[str]:
    """Ids of the tasks that have not ended."""
    page = await store.list(status=None, task_type=None, limit=1000)
    return [task.id for task in page.tasks if not task.status.is_ended]


async def holder_of(hand: Hand, key: str = "k") -> str | None:
    raw = await execute(hand.client, "HGET", hand.keys.unique("t", key), "task")
    return raw.decode() if raw else None


async def test_while_a_task_has_not_ended_another_one_with_its_key_is_that_task(store: TaskStore, hand: Hand):
    first = await store.create(NEW)
    again = await store.create(NewTask("t", {"n": 2}, title="Other", unique_key="k"))
    assert (again.id, again.input) == (first.id, {"n": 1})
    await hand.claimed(first.id)
    assert (await store.create(NEW)).id == first.id
    assert await queued(hand.client, hand.keys) == [first.id]


async def test_a_key_is_one_of_its_type_and_says_nothing_about_others(store: TaskStore):
    ids = [
        (await store.create(NewTask(task_type, {}, unique_key=key))).id
        for task_type, key in (("t", "k"), ("t", "K"), ("u", "k"), ("t", None), ("t", None))
    ]
    assert len(set(ids)) == 5


async def test_of_many_that_ask_at_once_on_two_replicas_all_get_one_task(store: TaskStore, hand: Hand, redis_url: str):
    client = connect(redis_url, name="other")
    other = store_over(client, hand.keys)
    for _ in range(10):
        records = await asyncio.gather(*[each.create(NEW) for each in (store, other) for _ in range(10)])
        assert len({record.id for record in records}) == 1
        assert await alive(store) == [records[0].id]
        # All of them find the same end at once, too.
        await store.cancel(records[0].id)
    await client.aclose()


async def complete(hand: Hand, store: TaskStore, task_id: str) -> None:
    await hand.finish(await hand.claimed(task_id), 1)


async def cancel(hand: Hand, store: TaskStore, task_id: str) -> None:
    await store.cancel(task_id)


async def lose_every_worker(hand: Hand, store: TaskStore, task_id: str) -> None:
    for number in range(3):
        await hand.claimed(task_id, nonce=f"n{number}", lease_ms=0)
    await reaper_over(hand.client, hand.keys).reap_once()


async def delete(hand: Hand, store: TaskStore, task_id: str) -> None:
    await store.cancel(task_id)
    await store.delete(task_id)


async def expire(hand: Hand, store: TaskStore, task_id: str) -> None:
    await store.cancel(task_id)
    await hand.lose_record(task_id)
    await execute(hand.client, "DEL", hand.keys.unique("t", "k"))  # as the reaper does after each end


@pytest.mark.parametrize("end", [complete, cancel, lose_every_worker, delete, expire])
async def test_after_every_end_the_key_is_free(
    store: TaskStore, hand: Hand, end: Callable[[Hand, TaskStore, str], Awaitable[None]]
):
    first = await store.create(NEW)
    await end(hand, store, first.id)
    second = await store.create(NEW)
    assert second.id != first.id
    assert (await store.create(NEW)).id == second.id
    assert await alive(store) == [second.id]


@pytest.mark.parametrize("is_leased", [True, False])
async def test_a_worker_that_dies_does_not_free_the_key_of_its_task(store: TaskStore, hand: Hand, is_leased: bool):
    first = await store.create(NEW)
    await hand.claimed(first.id, lease_ms=10_000 if is_leased else 0)
    assert (await store.create(NEW)).id == first.id


async def test_a_lost_record_blocks_nobody(store: TaskStore, hand: Hand):
    first = await store.create(NEW)
    await hand.lose_record(first.id)
    second = await store.create(NewTask("t", {"n": 2}, unique_key="k"))
    assert (second.status, second.input) == (Status.PENDING, {"n": 2})
    assert (await store.create(NEW)).id == second.id
    assert second.id in await queued(hand.client, hand.keys)


async def test_a_lost_holder_is_written_back_before_another_task_can_have_the_key(store: TaskStore, hand: Hand):
    first = await store.create(NEW)
    await hand.lose(hand.keys.unique("t", "k"))
    await reaper_over(hand.client, hand.keys).reap_once()
    assert (await store.create(NEW)).id == first.id


async def test_time_alone_does_not_free_a_key_and_an_end_leaves_no_holder(store: TaskStore, hand: Hand):
    first = await store.create(NEW)
    name = hand.keys.unique("t", "k")
    await execute(hand.client, "PEXPIRE", name, 1000)
    reaper = reaper_over(hand.client, hand.keys)
    await reaper.reap_once()
    assert await execute(hand.client, "PTTL", name) > 6 * 86_400_000
    await store.cancel(first.id)
    await reaper.reap_once()
    assert await holder_of(hand) is None


async def test_the_holder_of_a_delayed_task_lasts_as_long_as_its_delay(store: TaskStore, hand: Hand):
    month_ms = 31 * 86_400_000
    await store.create(NewTask("t", {}, unique_key="k", delay_ms=month_ms))
    await reaper_over(hand.client, hand.keys).reap_once()
    assert await execute(hand.client, "PTTL", hand.keys.unique("t", "k")) > month_ms


async def test_the_reaper_of_a_task_that_ended_does_not_take_the_key_from_its_successor(store: TaskStore, hand: Hand):
    first = await store.create(NEW)
    await store.cancel(first.id)
    second = await store.create(NEW)
    await reaper_over(hand.client, hand.keys).reap_once()
    assert await holder_of(hand) == second.id


# Whoever dies between two steps.


@pytest.mark.parametrize("lost", ["hold", "ZADD", "create", "XADD", "amend"])
@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
async def test_a_creation_that_died_at_any_step_is_finished_by_the_next_who_asks(
    redis_url: str, store: TaskStore, hand: Hand, lost: str, fault: str
):
    async with FaultProxy(redis_url) as proxy:
        client = connect(proxy.url, name="test")
        getattr(proxy, fault)(lost)
        with pytest.raises(LogUnavailable):
            await store_over(client, hand.keys).create(NEW)
        await client.aclose()
    record = await store.create(NEW)
    assert (await store.create(NEW)).id == record.id
    assert await alive(store) == [record.id]
    assert set(await queued(hand.client, hand.keys)) == {record.id}


async def test_a_creation_that_is_slow_and_whoever_finishes_it_get_the_same_task(
    redis_url: str, store: TaskStore, hand: Hand
):
    others: list[TaskRecord] = []

    async def ask() -> None:
        others.append(await store.create(NewTask("t", {"n": 2}, unique_key="k")))

    async with FaultProxy(redis_url) as proxy:
        client = connect(proxy.url, name="test")
        proxy.hold_reply("hold", ask)
        record = await store_over(client, hand.keys).create(NEW, idempotency_key="mine")
        again = await store_over(client, hand.keys).create(NEW, idempotency_key="mine")
        await client.aclose()
    assert record.id == again.id == others[0].id
    assert record.input == {"n": 2}  # the other one came first


async def test_a_request_that_is_repeated_gets_its_first_answer_although_its_task_has_ended(
    store: TaskStore, hand: Hand
):
    first = await store.create(NEW, idempotency_key="mine")
    await store.cancel(first.id)
    second = await store.create(NEW)
    assert (await store.create(NEW, idempotency_key="mine")).id == first.id
    assert await alive(store) == [second.id]
    with pytest.raises(Conflict, match="another request"):
        await store.create(NewTask("t", {"n": 1}, unique_key="other"), idempotency_key="mine")


# Running again.


async def test_an_ended_task_is_not_run_again_beside_another_with_its_key(store: TaskStore, hand: Hand):
    first = await store.create(NEW)
    await lose_every_worker(hand, store, first.id)
    second = await store.create(NEW)
    dead_letters = DeadLetters(hand.client, hand.keys, store, lifetimes=LIFETIMES)
    for act in (store.start(first.id, rerun_of=3), dead_letters.retry(first.id)):
        with pytest.raises(Conflict, match=f"Task '{second.id}' has the unique_key 'k'"):
            await act
    await store.cancel(second.id)
    assert (await dead_letters.retry(first.id)).status is Status.PENDING
    assert (await store.create(NEW)).id == first.id
    assert await alive(store) == [first.id]


@pytest.mark.parametrize("step", ["start", "hold"])
async def test_whoever_asks_in_the_middle_of_a_rerun_gets_the_task_that_runs_again(
    redis_url: str, store: TaskStore, hand: Hand, step: str
):
    first = await store.create(NEW)
    await complete(hand, store, first.id)
    found: list[TaskRecord] = []

    async def ask() -> None:
        found.append(await store.create(NEW))

    async with FaultProxy(redis_url) as proxy:
        client = connect(proxy.url, name="test")
        proxy.hold_reply(step, ask, skip=int(step == "hold"))  # the first look finds its own old holder
        await store_over(client, hand.keys).start(first.id, rerun_of=1)
        await client.aclose()
    assert [record.id for record in found] == [first.id]
    assert await alive(store) == [first.id]


async def test_a_rerun_that_was_cancelled_before_it_began_frees_the_key_too(store: TaskStore, hand: Hand):
    first = await store.create(NEW)
    await complete(hand, store, first.id)
    await store.start(first.id, rerun_of=1)
    await store.cancel(first.id)
    second = await store.create(NEW)
    assert second.id != first.id
    assert await alive(store) == [second.id]


async def test_reruns_and_creations_at_once_leave_one_task_alive(store: TaskStore, hand: Hand, redis_url: str):
    client = connect(redis_url, name="other")
    other = store_over(client, hand.keys)
    for _ in range(20):
        first = await store.create(NEW)
        await complete(hand, store, first.id)
        reruns = [each.start(first.id, rerun_of=1) for each in (store, other)]
        await asyncio.gather(reruns[0], store.create(NEW), other.create(NEW), reruns[1], return_exceptions=True)
        [only] = await alive(store)
        await store.cancel(only)
    await client.aclose()
