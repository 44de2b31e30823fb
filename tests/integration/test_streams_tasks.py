"""Tasks on a real server: creating once, paging, starting, cancelling, deleting, and what others are told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.streams.connections import AsyncClient, connect, connect_sync, execute
from server.streams.errors import Conflict, InvalidInput, LogUnavailable, Unknown
from server.streams.keys import Keys
from server.streams.ready import QueueEntry, ReadyQueue, Room, touch_many_sync
from server.streams.records import Status
from server.streams.tasks import NewTask, TaskStore
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import Hand
from tests.support.tasks import queued, store_over


@pytest.fixture
def store(client: AsyncClient, keys: Keys) -> TaskStore:
    return store_over(client, keys)


async def told(hand: Hand, stream: str) -> list[tuple[str, str]]:
    """Types and statuses announced on a stream."""
    datas: list[tuple[str, Any]] = [(event.type, json.loads(event.data)) for event in await hand.log(stream)]
    return [(event_type, data["status"]) for event_type, data in datas]


# Creating.


async def test_a_new_task_is_recorded_queued_listed_and_announced(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("sum", {"n": 1}, title="Add", queue="fast", max_attempts=2))
    found = await store.get(record.id)
    assert (found.type, found.input, found.queue, found.status) == ("sum", {"n": 1}, "fast", Status.PENDING)
    assert (found.values["title"], found.values["max_attempts"]) == ("Add", "2")
    assert await queued(hand.client, hand.keys, "fast") == [record.id]
    assert [task.id for task in (await store.list(status=None, task_type=None, limit=10)).tasks] == [record.id]
    assert [task_id for task_id, _ in await store.unfinished(limit=10, offset=0)] == [record.id]
    assert await told(hand, "system") == [("task_created", "pending")]
    assert await told(hand, "tasks") == [("task_update", "pending")]


async def test_a_task_created_without_execution_waits_for_its_start(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("sum", {}, execute=False))
    assert await queued(hand.client, hand.keys) == []
    assert not (await store.get(record.id)).is_queued
    assert (await store.start(record.id)).is_queued
    await store.start(record.id)
    assert await queued(hand.client, hand.keys) == [record.id]


async def test_the_same_key_and_request_give_the_same_task_however_often_and_at_once(store: TaskStore, hand: Hand):
    new = NewTask("sum", {"n": 1})
    records = await asyncio.gather(*[store.create(new, idempotency_key="key") for _ in range(10)])
    assert len({record.id for record in records}) == 1
    assert set(await queued(hand.client, hand.keys)) == {records[0].id}
    assert await told(hand, "system") == [("task_created", "pending")]
    assert (await store.create(new)).id != records[0].id


async def test_the_same_key_with_another_request_is_a_conflict_and_changes_nothing(store: TaskStore):
    record = await store.create(NewTask("sum", {"n": 1}), idempotency_key="key")
    for other in (NewTask("sum", {"n": 2}), NewTask("other", {"n": 1}), NewTask("sum", {"n": 1}, title="x")):
        with pytest.raises(Conflict, match="Idempotency-Key"):
            await store.create(other, idempotency_key="key")
    assert (await store.get(record.id)).input == {"n": 1}


async def test_the_same_key_after_the_end_gives_the_ended_task_and_queues_nothing(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("sum", {}), idempotency_key="key")
    await store.cancel(record.id)
    before = await queued(hand.client, hand.keys)
    again = await store.create(NewTask("sum", {}), idempotency_key="key")
    assert (again.id, again.status) == (record.id, Status.CANCELLED)
    assert await queued(hand.client, hand.keys) == before


async def test_the_key_of_a_deleted_task_is_a_conflict(store: TaskStore):
    record = await store.create(NewTask("sum", {}), idempotency_key="key")
    await store.cancel(record.id)
    await store.delete(record.id)
    with pytest.raises(Conflict, match="deleted"):
        await store.create(NewTask("sum", {}), idempotency_key="key")
    assert (await store.list(status=None, task_type=None, limit=10)).tasks == []


@pytest.mark.parametrize("lost", ["ZADD", "create", "XADD", "amend"])
@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
async def test_a_creation_that_died_at_any_step_is_finished_by_asking_again(
    redis_url: str, keys: Keys, hand: Hand, lost: str, fault: str
):
    async with FaultProxy(redis_url) as proxy:
        client = connect(proxy.url, name="test")
        store = store_over(client, keys)
        getattr(proxy, fault)(lost)
        with pytest.raises(LogUnavailable):
            await store.create(NewTask("sum", {}), idempotency_key="key")
        record = await store.create(NewTask("sum", {}), idempotency_key="key")
        await client.aclose()
    assert set(await queued(hand.client, hand.keys)) == {record.id}
    assert (await store_over(hand.client, keys).get(record.id)).status is Status.PENDING


async def test_input_that_json_cannot_hold_creates_nothing(store: TaskStore):
    with pytest.raises(InvalidInput):
        await store.create(NewTask("sum", {"n": float("nan")}))
    assert (await store.list(status=None, task_type=None, limit=10)).tasks == []


# Looking up and paging.


@pytest.mark.parametrize("task_id", ["nobody", "", "a/b", "a" * 200, "é"])
async def test_an_unknown_or_impossible_id_is_told_apart_from_a_task(store: TaskStore, task_id: str):
    for act in (store.get, store.start, store.cancel, store.delete):
        with pytest.raises((Unknown, InvalidInput)):
            await act(task_id)


async def every_page(store: TaskStore, limit: int, **only: Any) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.list(limit=limit, cursor=cursor, **({"status": None, "task_type": None} | only))
        assert len(page.tasks) <= limit
        found += [task.id for task in page.tasks]
        if page.next_cursor is None:
            return found
        assert len(page.tasks) == limit
        cursor = page.next_cursor


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.integers(1, 4), max_size=14), limit=st.integers(1, 6), types=st.lists(st.booleans(), max_size=14)
)
def test_pages_put_together_are_all_tasks_newest_first(redis_url: str, times: list[int], limit: int, types: list[bool]):
    """Several tasks of one millisecond share a page's edge."""

    async def check() -> None:
        client, keys = connect(redis_url, name="test"), Keys()
        await execute(client, "FLUSHALL")
        hand, store = Hand(client, keys), store_over(client, keys)
        for number, moment in enumerate(times):
            await hand.create(f"t{number}", type="odd" if number < len(types) and types[number] else "even")
            await execute(client, "ZADD", keys.tasks_index, moment, f"t{number}")
        await execute(client, "ZADD", keys.tasks_index, 2, "expired-long-ago")
        expected = sorted(((moment, f"t{number}") for number, moment in enumerate(times)), reverse=True)
        odd = {f"t{number}" for number, is_odd in enumerate(types) if is_odd and number < len(times)}
        assert await every_page(store, limit) == [task_id for _, task_id in expected]
        assert await every_page(store, limit, task_type="odd") == [each for _, each in expected if each in odd]
        assert await every_page(store, limit, status=Status.RUNNING) == []
        await client.aclose()

    asyncio.run(check())


async def test_a_page_skips_what_was_deleted_and_goes_beyond_a_hundred(store: TaskStore, hand: Hand):
    for number in range(250):
        await hand.create(f"t{number}", type="rare" if number % 100 == 7 else "common")
        await execute(hand.client, "ZADD", hand.keys.tasks_index, number, f"t{number}")
    await store.cancel("t107")
    await store.delete("t107")
    assert await every_page(store, 50) == [f"t{number}" for number in reversed(range(250)) if number != 107]
    assert await every_page(store, 2, task_type="rare") == ["t207", "t7"]


# Starting again, cancelling, deleting.


async def test_a_rerun_starts_once_and_is_queued_and_told(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("t", {}))
    await hand.finish(await hand.claimed(record.id), 1)
    for _ in range(2):
        again = await store.start(record.id, rerun_of=1)
        assert again.status is Status.PENDING
    assert (await queued(hand.client, hand.keys)).count(record.id) == 2  # the first one is for the worker to settle
    assert (await store.start(record.id)).status is Status.PENDING
    assert ("task_updated", "pending") in await told(hand, "system")


async def test_a_pending_task_is_cancelled_at_once_and_told_once(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("t", {}))
    for _ in range(2):
        assert (await store.cancel(record.id)).status is Status.CANCELLED
    assert await told(hand, "system") == [("task_created", "pending"), ("task_completed", "cancelled")]
    assert await told(hand, "tasks") == [("task_update", "pending"), ("task_update", "cancelled")]


async def test_a_running_task_is_asked_to_stop(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("t", {}))
    await hand.claimed(record.id)
    found = await store.cancel(record.id)
    assert (found.status, found.is_cancel_requested) == (Status.RUNNING, True)
    assert (await hand.renew(record.id)).is_cancel_requested


async def test_an_ended_task_stays_as_it_is_when_it_is_cancelled(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("t", {}))
    await hand.finish(await hand.claimed(record.id), 1)
    assert (await store.cancel(record.id)).status is Status.COMPLETED


async def test_only_an_ended_task_is_deleted_and_it_is_forgotten_everywhere(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("t", {}))
    with pytest.raises(Conflict, match="Cancel it first"):
        await store.delete(record.id)
    await store.cancel(record.id)
    await store.delete(record.id)
    for act in (store.get, store.start, store.cancel, store.delete):
        with pytest.raises(Unknown):
            await act(record.id)
    assert (await store.list(status=None, task_type=None, limit=10)).tasks == []
    assert await store.unfinished(limit=10, offset=0) == []
    marker = await store.find(record.id)
    assert marker
    assert marker.status is Status.DELETED


async def test_a_task_that_was_lost_is_put_back_on_the_indexes(store: TaskStore, hand: Hand):
    record = await store.create(NewTask("t", {}))
    await execute(hand.client, "DEL", hand.keys.tasks_index, hand.keys.unfinished_index)
    await store.restore_index(record.id)
    assert [task.id for task in (await store.list(status=None, task_type=None, limit=10)).tasks] == [record.id]
    assert [task_id for task_id, _ in await store.unfinished(limit=10, offset=0)] == [record.id]


# The queue.


@pytest.fixture
def queue(client: AsyncClient, keys: Keys) -> ReadyQueue:
    return reading(client, keys, ("default", "t"), ("slow", "t"))


def reading(client: AsyncClient, keys: Keys, *streams: tuple[str, str], consumer: str = "w1") -> ReadyQueue:
    """A worker's end of streams that are alike."""
    return ReadyQueue(client, client, keys, levels=[[keys.ready(*each) for each in streams]], consumer=consumer)


async def taken(queue: ReadyQueue, *, limit: int = 10) -> list[str]:
    """What a worker gets; the first look at a queue that was never read makes its group."""
    entries = await queue.look(Room(limit)) or await queue.look(Room(limit))
    return [entry.task_id for entry in entries]


async def test_a_worker_gets_each_entry_once_up_to_its_limit(store: TaskStore, queue: ReadyQueue):
    ids = [(await store.create(NewTask("t", {}, queue=name))).id for name in ("default", "default", "slow")]
    assert await taken(queue, limit=1) == [ids[0]]
    assert sorted(await taken(queue)) == sorted(ids[1:])  # of streams that are alike none is first
    assert await taken(queue) == []


async def test_a_worker_gets_entries_of_its_types_alone(store: TaskStore, client: AsyncClient, keys: Keys):
    one = (await store.create(NewTask("one", {}))).id
    two = (await store.create(NewTask("two", {}))).id
    assert await taken(reading(client, keys, ("default", "two"), ("default", "three"))) == [two]
    assert await taken(reading(client, keys, ("default", "one"))) == [one]


async def test_with_fewer_slots_than_types_no_more_is_taken_and_every_type_has_its_turn(
    store: TaskStore, client: AsyncClient, keys: Keys
):
    types = ("a", "b", "c")
    ids = [(await store.create(NewTask(each, {}))).id for each in types for _ in range(4)]
    queue = reading(client, keys, *[("default", each) for each in types])
    rounds = [await taken(queue, limit=2) for _ in range(6)]
    assert [len(each) for each in rounds] == [2] * 6
    assert sorted(task_id for each in rounds for task_id in each) == sorted(ids)
    assert set(rounds[0] + rounds[1]) > {ids[0], ids[4], ids[8]}


async def test_an_entry_of_another_type_is_moved_to_where_workers_of_its_type_look(
    store: TaskStore, client: AsyncClient, keys: Keys, hand: Hand
):
    record = await store.create(NewTask("b", {}))
    await hand.lose(keys.ready("default", "b"))
    await execute(client, "XADD", keys.ready("default", "a"), "*", "task", record.id)
    wrong = reading(client, keys, ("default", "a"))
    await wrong.ensure_groups()
    [entry] = await wrong.look(Room(1))
    await wrong.move(entry, record)
    assert await taken(wrong) == []
    assert await taken(reading(client, keys, ("default", "b"))) == [record.id]


async def test_an_entry_that_is_settled_is_gone_and_one_that_is_put_back_comes_again(
    store: TaskStore, queue: ReadyQueue, hand: Hand
):
    record = await store.create(NewTask("t", {}))
    await queue.ensure_groups()
    [entry] = await queue.look(Room(1))
    await queue.put_back(entry)
    [again] = await queue.look(Room(1))
    assert (again.task_id, again.id != entry.id) == (record.id, True)
    assert (await hand.fields(record.id))["queue_entry"] == again.id
    await queue.settle(again)
    assert await queued(hand.client, hand.keys) == []
    assert (await execute(hand.client, "XPENDING", hand.keys.ready("default", "t"), "workers"))["pending"] == 0


async def test_entries_of_a_worker_that_touches_them_are_not_taken_over(
    store: TaskStore, queue: ReadyQueue, client: AsyncClient, keys: Keys, redis_url: str
):
    record = await store.create(NewTask("t", {}))
    await queue.ensure_groups()
    [entry] = await queue.look(Room(1))
    other = reading(client, keys, ("default", "t"), ("nothing", "t"), consumer="w2")

    await execute(client, "XCLAIM", keys.ready("default", "t"), "workers", "w1", 0, entry.id, "IDLE", 60_000)
    with_thread = connect_sync(redis_url, name="thread")
    lost = QueueEntry(keys.ready("nowhere", "t"), entry.id, record.id)  # there is no such queue any more
    touch_many_sync(with_thread, [lost, entry], consumer="w1")
    with_thread.close()
    assert await other.take_over(Room(10), idle_ms=30_000) == []
    assert [each.task_id for each in await other.take_over(Room(10), idle_ms=0)] == [record.id]
