"""Nothing grows without end: logs in bytes, groups in consumers, registries in names."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.fanout import Start
from server.streams import log as log_module
from server.streams import ready as ready_module
from server.streams.connections import AsyncClient, connect, execute
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.ready import GROUP, ReadyQueue, Room
from server.streams.registry import Registry, TaskType
from server.streams.writer import StreamWriter
from tests.support.live_side import live_side, until_seen
from tests.support.log_hand import LIFETIMES, Hand

BUDGET = 1 << 20
#: What may come between two measurements, one batch, and what a node of the log holds besides.
SLACK = BUDGET // 16 + (1 << 20)


@pytest.fixture
async def narrow(redis_url: str, keys: Keys) -> AsyncIterator[AsyncClient]:
    """A client whose user may not measure keys."""
    owner = connect(redis_url, name="owner")
    await execute(owner, "ACL", "SETUSER", "narrow", "on", ">secret", "~*", "&*", "+@all", "-memory")
    client = connect(f"{redis_url}?username=narrow&password=secret", name="narrow")
    yield client
    await client.aclose()
    await execute(owner, "ACL", "DELUSER", "narrow")
    await owner.aclose()


async def memory(hand: Hand, stream: str) -> int:
    return int(await execute(hand.client, "MEMORY", "USAGE", hand.keys.log(stream), "SAMPLES", "0"))


async def emit(writer: StreamWriter, count: int, size: int) -> None:
    for _ in range(count):
        await writer.emit(Draft("t", "x" * size))
    await writer.flush()


@pytest.mark.parametrize("sizes", [[2000] * 8, [100] * 4 + [20_000] * 4, [20_000] * 2 + [100] * 20, [200_000] * 2])
async def test_a_tasks_log_stays_within_its_bytes_and_keeps_its_newest_events(hand: Hand, sizes: list[int]):
    async with hand.writer(await hand.running(), max_bytes=BUDGET) as writer:
        for size in sizes:
            await emit(writer, 300, size)
            assert await memory(hand, "tasks.a") <= BUDGET + SLACK
        last = writer.stored
    events = await hand.task_log()
    sequences = [event.id.sequence for event in events]
    assert sequences == list(range(sequences[0], last.sequence + 1))
    # It is trimmed, not emptied.
    assert sum(len(event.data) for event in events) > BUDGET / 4 or sequences[0] == 0


async def test_what_earlier_attempts_left_counts_too(hand: Hand):
    await hand.create()
    for number in range(4):
        record = await hand.claimed(nonce=f"n{number}", lease_ms=0)
        async with hand.writer(record, nonce=f"n{number}", max_bytes=BUDGET) as writer:
            await emit(writer, 300, 3000)
        await hand.amend(spent="0")
    assert await memory(hand, "tasks.a") <= BUDGET + SLACK


async def test_an_event_larger_than_all_that_may_be_kept_is_kept_alone(hand: Hand):
    async with hand.writer(await hand.running(), max_bytes=BUDGET) as writer:
        await emit(writer, 10, 1000)
        await emit(writer, 1, 2 * BUDGET)
        await emit(writer, 64, 10)
        last = writer.stored.sequence
    sequences = [event.id.sequence for event in await hand.task_log()]
    assert sequences == list(range(sequences[0], last + 1))
    assert sequences[0] > 11


async def test_a_shared_log_stays_within_its_bytes_whoever_writes_it(
    client: AsyncClient, hand: Hand, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_module.secrets, "randbelow", random.Random(7).randrange)  # the same chances each time
    largest = 0
    for size in [100] * 50 + [3000] * 1500:
        # Each a publisher of its own, which knows nothing of the others.
        log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, max_bytes=BUDGET)
        await log.publish("chat", [Draft("t", "x" * size)])
        largest = max(largest, await memory(hand, "chat"))
    # Measuring is left to chance: so much at once comes between two measurements once in thousands of years.
    assert BUDGET / 2 < largest <= 3 * BUDGET


async def test_an_append_stands_where_its_user_may_not_measure(hand: Hand, narrow: AsyncClient, keys: Keys):
    record = await hand.running()
    async with Hand(narrow, keys).writer(record, max_bytes=BUDGET) as writer:
        await emit(writer, 200, 20_000)
    assert len(await hand.task_log()) == 201
    log = Log(narrow, keys, lifetimes=LIFETIMES, max_events=0, max_bytes=BUDGET)
    await log.publish("chat", [Draft("t", "x" * 500_000)] * 3)
    assert len(await hand.log("chat")) == 3


async def test_a_reader_of_what_was_trimmed_for_its_bytes_is_told_the_gap(redis_url: str, hand: Hand, keys: Keys):
    record = await hand.running()
    async with hand.writer(record, max_bytes=BUDGET) as writer:
        await emit(writer, 300, 20_000)
        first = (await hand.task_log())[0].id
        assert first.sequence > 5
        async with live_side(redis_url, keys) as side:
            reader = await side.read("tasks.a", Start(cursor=EventId(record.generation, 4)))
            await until_seen([reader], 300)
            assert [event.json() for event in reader.events if event.event == "gap"] == [
                {
                    "stream": "tasks.a",
                    "requested": f"{record.generation}-4",
                    "resumed_at": str(first),
                    "missed": first.sequence - 5,
                }
            ]
            assert reader.sequences == list(range(first.sequence, 301))


# Consumers of workers that are gone.


@pytest.fixture
def queue(client: AsyncClient, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> ReadyQueue:
    monkeypatch.setattr(ready_module, "_GONE_MS", 0)  # whoever stands there at all is long gone
    return queue_of(client, keys, "mine")


def queue_of(client: AsyncClient, keys: Keys, consumer: str) -> ReadyQueue:
    levels = [[keys.ready("default", "t"), keys.ready("default", "other")]]
    return ReadyQueue(client, client, keys, levels=levels, consumer=consumer)


async def consumers(client: AsyncClient, keys: Keys) -> dict[str, int]:
    rows: list[dict[bytes, Any]] = await execute(client, "XINFO", "CONSUMERS", keys.ready("default", "t"), GROUP)
    return {row[b"name"].decode(): row[b"pending"] for row in rows}


async def join(client: AsyncClient, keys: Keys, consumer: str) -> None:
    """As its first look does, but for Redis 7.0, which takes no notice of one that finds nothing."""
    await execute(client, "XGROUP", "CREATECONSUMER", keys.ready("default", "t"), GROUP, consumer)


async def test_consumers_of_workers_that_were_killed_go_once_others_have_their_entries(
    client: AsyncClient, keys: Keys, queue: ReadyQueue
):
    await queue.ensure_groups()
    await execute(client, "XADD", keys.ready("default", "t"), "*", "task", "a")
    await queue_of(client, keys, "killed").look(Room(1))
    await join(client, keys, "idle")
    assert await consumers(client, keys) == {"killed": 1, "idle": 0}
    await queue.retire_gone()
    assert await consumers(client, keys) == {"killed": 1}
    assert [entry.task_id for entry in await queue.take_over(Room(1), idle_ms=0)] == ["a"]
    await queue.retire_gone()
    assert await consumers(client, keys) == {"mine": 1}


async def test_consumers_that_were_seen_lately_stay(
    client: AsyncClient, keys: Keys, queue: ReadyQueue, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ready_module, "_GONE_MS", 60_000)
    await queue.ensure_groups()
    await join(client, keys, "idle")
    await queue.retire_gone()
    assert await consumers(client, keys) == {"idle": 0}


async def test_queues_that_are_not_there_have_no_consumers(queue: ReadyQueue):
    await queue.retire_gone()


# Names.


async def test_workers_and_types_of_yesterday_are_forgotten_although_others_live(client: AsyncClient, keys: Keys):
    registry = Registry(client, keys)
    types = [TaskType("old", "", {}), TaskType("new", "", {})]
    await registry.heartbeat("gone", types[:1], details={})
    await registry.heartbeat("here", types[1:], details={})
    for key, name in ((keys.workers, "gone"), (keys.types, "old")):
        seen = json.loads(await execute(client, "HGET", key, name))
        await execute(client, "HSET", key, name, json.dumps(seen | {"seen": seen["seen"] - 86_401}))
    await registry.forget_gone()
    assert await execute(client, "HKEYS", keys.workers) == [b"here"]
    assert await execute(client, "HKEYS", keys.types) == [b"new"]


async def test_a_publisher_remembers_the_streams_it_wrote_last(
    client: AsyncClient, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_module, "_MOST_KNOWN", 3)
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0)
    for name in ("a", "b", "c", "a", "d"):
        await log.publish(name, [Draft("t", "1")])
    assert list(log._known) == ["c", "a", "d"]
