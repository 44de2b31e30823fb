"""A Redis that answers and takes no writes, in every way there is: tasks wait, are told, and nothing is lost.

Memory, disk, demotion, missing replicas, loading, permissions: each is brought about for real.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from server.streams.connections import connect
from server.streams.keys import Keys
from server.streams.names import task_stream
from server.streams.records import Status, TaskRecord
from tests.support.event_reader import data_of, reading
from tests.support.log_hand import Hand
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.web import serving
from tests.support.working import MODULES, Bench, WorkerProcess, working
from tests.tasks import stuck

ALL_MODULES = (*MODULES, "tests.tasks.stuck")
EVENTS = 300
INTERVAL_MS = 10
#: Above what a busy machine may keep a worker from renewing.
LEASE_SECONDS = 2.0


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis with an append-only file that is synced every second: with `always` it ends when its disk is full."""
    with RedisServer(keeps_data=True, options=("--appendfsync", "everysec")) as server:
        yield server


@pytest.fixture
async def own_bench(own_redis: RedisServer, keys: Keys) -> AsyncIterator[Bench]:
    client = connect(own_redis.url, name="test", socket_timeout=30)
    yield Bench(client, keys)
    await client.aclose()


def _no_memory(redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "maxmemory", "1")


def _memory(redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "maxmemory", "0")


def _full_disk(redis: RedisServer) -> None:
    redis.limit_files(1)


def _disk(redis: RedisServer) -> None:
    redis.limit_files(-1)


def _demoted(redis: RedisServer) -> None:
    redis.command("REPLICAOF", "127.0.0.1", "1")


def _promoted(redis: RedisServer) -> None:
    redis.command("REPLICAOF", "NO", "ONE")


def _lonely(redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "min-replicas-to-write", "1")


def _sociable(redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "min-replicas-to-write", "0")


def _forbidden(redis: RedisServer) -> None:
    redis.command("ACL", "SETUSER", "default", "-xadd", "-hset", "-zadd")


def _allowed(redis: RedisServer) -> None:
    redis.command("ACL", "SETUSER", "default", "+@all")


WAYS: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "OOM": (_no_memory, _memory),
    "MISCONF": (_full_disk, _disk),
    "READONLY": (_demoted, _promoted),
    "NOREPLICAS": (_lonely, _sociable),
    "NOPERM": (_forbidden, _allowed),
}


@pytest.mark.parametrize("code", WAYS)
async def test_no_task_is_declared_dead_and_nothing_is_lost_while_redis_takes_no_writes(
    own_redis: RedisServer, own_bench: Bench, enough: Path, code: str
) -> None:
    refuse, heal = WAYS[code]
    with (
        WorkerProcess(own_redis.url, modules=ALL_MODULES, lease_seconds=LEASE_SECONDS) as owner,
        WorkerProcess(own_redis.url, lease_seconds=LEASE_SECONDS) as rival,
    ):
        await owner.says("is ready")
        await rival.says("is ready")
        types = ["emit_many", "emit_many_in_thread"]
        given: dict[str, Any] = {"count": EVENTS, "interval_ms": INTERVAL_MS, "until": str(enough)}
        task_ids = [await own_bench.create(each, **given) for each in types]
        for task_id in task_ids:
            await own_bench.has_emitted(task_id, "number", count=10)
        refuse(own_redis)
        await wait_until(
            lambda: owner.has_said(f"Redis refused: {code}") or rival.has_said(f"Redis refused: {code}"),
            description="a worker says why it waits",
        )
        # Time is the point: every lease has run out, none could be renewed, and all reads were answered.
        ends = monotonic() + 2.5 * LEASE_SECONDS
        await wait_until(lambda: monotonic() > ends, description="leases have run out")
        heal(own_redis)
        enough.touch()
        for task_id in task_ids:
            record = await own_bench.end(task_id)
            assert (record.status, record.attempt) == (Status.COMPLETED, 1)
            numbers = [data["number"] for data in await own_bench.datas(task_id, "number")]
            assert numbers == list(range(record.as_json()["result"]["count"]))
        for worker in (owner, rival):
            assert worker.process.poll() is None
            assert not [line for line in worker.lines() if "exception" in line]
            waits = [message for message in worker.messages() if message.startswith("Appends wait")]
            assert len(waits) <= 2, waits


@pytest.mark.parametrize("code", ["OOM", "MISCONF", "READONLY", "NOREPLICAS"])
async def test_a_worker_judges_no_lease_while_redis_only_answers(
    own_redis: RedisServer, own_bench: Bench, code: str
) -> None:
    refuse, heal = WAYS[code]
    async with working(own_redis.url) as worker:
        await wait_until(worker._may_judge_expired, description="it has been in touch for a lease")
        refuse(own_redis)
        await wait_until(lambda: not worker._may_judge_expired(), description="it is in touch no more")
        heal(own_redis)
        await wait_until(worker._may_judge_expired, description="it is again, for a lease")


@pytest.mark.parametrize("code", ["OOM", "MISCONF", "READONLY"])
async def test_readers_keep_their_streams_with_heartbeats_and_nobody_is_missed(
    own_redis: RedisServer, own_bench: Bench, enough: Path, code: str
) -> None:
    refuse, heal = WAYS[code]
    async with (
        serving(own_redis.url, heartbeat_seconds=0.2, lease_seconds=LEASE_SECONDS) as web,
        working(own_redis.url, lease_seconds=LEASE_SECONDS) as _worker,
    ):
        await web.until_ready()
        task_id = await own_bench.create("emit_many", count=EVENTS, interval_ms=INTERVAL_MS, until=str(enough))
        async with reading(web.client, f"/tasks/{task_id}/events?heartbeat=event") as reader:
            found = [await reader.next() for _ in range(20)]
            refuse(own_redis)
            ends = monotonic() + 2.5 * LEASE_SECONDS
            while monotonic() < ends:
                found.append(await reader.next())
            # New readers are welcome: what there is can be read.
            await web.until_ready()
            heal(own_redis)
            enough.touch()
            found += await reader.rest()
        count = (await own_bench.store.get(task_id)).as_json()["result"]["count"]
    kinds = [each.event for each in found]
    assert kinds.count("heartbeat") >= 3
    assert not {"stalled", "gap"} & set(kinds)
    assert kinds.count("attempt") == 1
    assert [data_of(each)["number"] for each in found if each.event == "number"] == list(range(count))
    assert kinds[-1] == "complete"


async def test_a_redis_that_loads_its_data_is_waited_for_by_workers_and_readers(
    own_redis: RedisServer, own_bench: Bench
) -> None:
    for number in range(400):
        await own_bench.client.execute_command("SET", f"filling:{number}", secrets.token_hex(50))
    async with (
        serving(own_redis.url, heartbeat_seconds=0.2, lease_seconds=LEASE_SECONDS) as web,
        working(own_redis.url) as _worker,
    ):
        await web.until_ready()
        task_id = await own_bench.create("emit_many", count=EVENTS, interval_ms=INTERVAL_MS)
        async with reading(web.client, f"/tasks/{task_id}/events?heartbeat=event") as reader:
            found = await reader.take(20)
            # Two seconds, in which it looks at its connections after each kilobyte, and answers LOADING.
            own_redis.command("CONFIG", "SET", "loading-process-events-interval-bytes", 1024)
            own_redis.command("CONFIG", "SET", "key-load-delay", 5000)
            reloading = asyncio.create_task(own_bench.client.execute_command("DEBUG", "RELOAD"))
            found += await reader.rest()
            await reloading
        record = await own_bench.end(task_id)
        refusals: Any = own_redis.command("INFO", "errorstats")
    assert refusals["errorstat_LOADING"]["count"] > 0
    assert (record.status, record.attempt) == (Status.COMPLETED, 1)
    assert [data["number"] for data in await own_bench.datas(task_id, "number")] == list(range(EVENTS))
    kinds = [each.event for each in found]
    assert not {"stalled", "gap"} & set(kinds)
    assert kinds.count("heartbeat") >= 3
    assert [data_of(each)["number"] for each in found if each.event == "number"] == list(range(EVENTS))


async def test_a_function_can_see_for_how_long_nothing_of_it_was_stored(
    own_redis: RedisServer, own_bench: Bench
) -> None:
    stuck.seen.clear()
    async with working(own_redis.url, *ALL_MODULES) as _worker:
        task_id = await own_bench.create("look_until_unstored", seconds=0.5)
        await own_bench.has_emitted(task_id, "looking")
        _no_memory(own_redis)
        await wait_until(lambda: len(stuck.seen) == 2, description="the function saw it")
        _memory(own_redis)
        await own_bench.end(task_id)
    before, meanwhile = stuck.seen
    assert before == 0
    assert meanwhile >= 0.5


# The time is over.


@pytest.mark.parametrize("task_type", ["emit_for_ever", "emit_for_ever_in_thread", "checkpoint_for_ever"])
async def test_an_attempt_that_cannot_be_stored_in_time_is_stopped_and_tried_again_when_redis_takes_writes(
    own_redis: RedisServer, own_bench: Bench, caplog: pytest.LogCaptureFixture, task_type: str
) -> None:
    async with working(own_redis.url, *ALL_MODULES, write_timeout_seconds=1.5) as _worker:
        task_id = await own_bench.create(task_type, max_attempts=2)
        await own_bench.has_emitted(task_id, "number", count=10)
        with caplog.at_level(logging.WARNING, logger="workers"):
            _no_memory(own_redis)
            await wait_until(lambda: "is stopped: Redis has stored nothing" in caplog.text, description="it is told")
            await wait_until(lambda: "failed: Redis stored nothing" in caplog.text, description="it ends")
        assert "maxmemory" in caplog.text
        assert "was told to stop and goes on" not in caplog.text  # also from a thread that waited for room
        _memory(own_redis)

        async def second_attempt() -> TaskRecord | None:
            record = await own_bench.store.get(task_id)
            return record if record.attempt == 2 else None

        record = await wait_until(second_attempt, description="it is tried again")
        assert record
        assert [(each["code"], each["attempt"]) for each in record.errors] == [("not_stored", 1)]
        assert "stored nothing of this attempt for 1.5 s" in json.loads(record.values["opening"])["error"]
        # What it had emitted before it was stopped is there, in order, each once: it waited in the writer.
        events = await Hand(own_bench.client, own_bench.keys).task_log(task_id)
        generation = events[0].id.generation
        sequences = [event.id.sequence for event in events if event.id.generation == generation]
        assert sequences == list(range(len(sequences)))
        await own_bench.store.cancel(task_id)
        await own_bench.end(task_id)


async def test_a_result_is_not_given_up_however_long_redis_takes_no_writes(
    own_redis: RedisServer, own_bench: Bench
) -> None:
    stuck.told.clear()
    async with working(own_redis.url, *ALL_MODULES, write_timeout_seconds=1) as _worker:
        task_id = await own_bench.create("end_when_told")
        await own_bench.has_emitted(task_id, "waiting")
        _no_memory(own_redis)
        stuck.told.set()
        ends = monotonic() + 2.5
        await wait_until(lambda: monotonic() > ends, description="more than the time has passed")
        _memory(own_redis)
        record = await own_bench.end(task_id)
    assert (record.status, record.attempt) == (Status.COMPLETED, 1)
    assert record.as_json()["result"] == "the result"


# What never heals by itself.


async def test_a_task_whose_log_is_something_else_is_let_go_said_clearly_and_run_again_once_that_is_mended(
    own_redis: RedisServer, own_bench: Bench, enough: Path
) -> None:
    with WorkerProcess(own_redis.url, modules=ALL_MODULES) as worker:
        await worker.says("is ready")
        task_id = await own_bench.create("emit_many", count=EVENTS, interval_ms=INTERVAL_MS, until=str(enough))
        await own_bench.has_emitted(task_id, "number", count=10)
        log = own_bench.keys.log(task_stream(task_id))
        own_redis.command("SET", log, "not a stream")
        await worker.says("Let go of task")
        assert worker.has_said("remove that key")
        # The worker has its slot back and goes on with others; this one is looked at once a lease, not all the time.
        other = await own_bench.create("emit_many", count=3)
        assert (await own_bench.end(other)).status is Status.COMPLETED
        await worker.says("is left alone for one lease")
        own_redis.command("DEL", log)
        enough.touch()
        record = await own_bench.end(task_id)
        assert (record.status, record.attempt) == (Status.COMPLETED, 2)
        assert not [line for line in worker.lines() if "exception" in line]
