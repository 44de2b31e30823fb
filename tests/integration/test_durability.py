"""An event counts as stored once a replica has it, or the disk, where REPRISE_DURABILITY asks for that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import pytest

from server.streams import calls
from server.streams import durability as durability_module
from server.streams.announcements import Announcer
from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient, Command, connect, execute
from server.streams.durability import Durability
from server.streams.errors import Conflict, LogRefused, LogUnavailable, NotDurable, NotStored
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.log import Log
from server.streams.records import Status, TaskRecord
from server.streams.shared_writer import SharedWriter
from server.streams.tasks import NewTask, TaskStore
from server.streams.writer import StreamWriter
from tests.support.log_hand import LIFETIMES, Hand
from tests.support.ports import unused_port
from tests.support.redis_server import RedisServer
from tests.support.replicated import Replicated, in_vain
from tests.support.waiting import wait_until

T = TypeVar("T")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that is in vain takes less time, and nobody gives up."""
    monkeypatch.setattr(durability_module, "WAIT_MS", 100)
    monkeypatch.setattr(durability_module, "WAITS", 200)


@pytest.fixture
async def client(pair: Replicated) -> AsyncIterator[AsyncClient]:
    found = connect(pair.url, name="test")
    yield found
    await found.aclose()


@pytest.fixture
def hand(client: AsyncClient, keys: Keys) -> Hand:
    return Hand(client, keys)


@pytest.fixture
async def lane(client: AsyncClient) -> AsyncIterator[Lane]:
    found = Lane(partial(open_bulk, client), durability=Durability.REPLICATED)
    yield found
    await found.aclose()


async def waits(action: asyncio.Future[Any], *, seconds: float = 0.5) -> bool:
    done, _ = await asyncio.wait({action}, timeout=seconds)
    return not done


async def emit(writer: StreamWriter, *numbers: int) -> None:
    for number in numbers:
        await writer.emit(Draft("t", str(number)))


async def numbers(hand: Hand) -> list[str]:
    return [event.data for event in await hand.task_log() if event.type == "t"]


async def test_a_writer_counts_as_stored_what_its_replica_has_and_says_that_it_waits(
    pair: Replicated, hand: Hand, lane: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    async with hand.writer(await hand.running(), lane=lane) as writer:
        await emit(writer, 1)
        await writer.flush()
        pair.replica.pause()
        await emit(writer, 2)
        with caplog.at_level(logging.INFO, logger="server.streams.lane"):
            flushing = asyncio.ensure_future(writer.flush())
            assert await waits(flushing)
            # It is in the log, and its readers have it; but its writer does not forget it.
            assert await numbers(hand) == ["1", "2"]
            assert writer.stored.sequence == 1
            pair.replica.resume()
            await asyncio.wait_for(flushing, 30)
    assert writer.stored.sequence == 2
    said = [each.message for each in caplog.records]
    assert [message[:12] for message in said] == ["Appends wait", "Appends go o"]
    assert "No replica has confirmed" in said[0]


async def test_a_writer_that_is_refused_for_good_hears_so_while_others_wait_for_a_replica(
    pair: Replicated, hand: Hand, lane: Lane, keys: Keys
) -> None:
    stored, refused = (
        SharedWriter(lane, keys, stream, lifetimes=LIFETIMES, max_events=0, patience_seconds=60)
        for stream in ("chat", "other")
    )
    await execute(hand.client, "SET", keys.log("other"), "no stream", "PX", 60_000)
    pair.replica.pause()
    for writer in (stored, refused):
        writer.put(Draft("t", "1"))  # in one turn, so both go in one trip
    storing = asyncio.ensure_future(stored.flush())
    with pytest.raises(LogRefused, match="WRONGTYPE"):
        await asyncio.wait_for(refused.flush(), 5)
    assert not storing.done()
    pair.replica.resume()
    await asyncio.wait_for(storing, 5)
    stored.close()
    refused.close()


async def test_what_was_flushed_is_there_after_a_failover(pair: Replicated, hand: Hand, lane: Lane, keys: Keys) -> None:
    async with hand.writer(await hand.running(), lane=lane) as writer:
        await emit(writer, *range(200))
        await writer.flush()
        pair.leave_behind()  # whatever the replica has not got by now it never gets
        await emit(writer, 200)
        flushing = asyncio.ensure_future(writer.flush())
        assert await waits(flushing)
        flushing.cancel()
        pair.fail_over()
        assert (await survivors(pair, keys))[:200] == [str(number) for number in range(200)]


async def test_without_it_what_was_flushed_is_lost_with_its_master_and_its_writer(
    pair: Replicated, hand: Hand, keys: Keys
) -> None:
    async with hand.writer(await hand.running()) as writer:
        pair.until_linked()
        await emit(writer, 0)
        await writer.flush()
        await wait_until(lambda: pair.replica.command("XLEN", keys.log("tasks.a")) == 2, description="a replica has it")
        pair.leave_behind()
        await emit(writer, *range(1, 200))
        await writer.flush()
    pair.fail_over()
    assert await survivors(pair, keys) == ["0"]


async def survivors(pair: Replicated, keys: Keys) -> list[str]:
    """What is there after a failover."""
    promoted = connect(pair.url, name="promoted")
    found = await numbers(Hand(promoted, keys))
    await promoted.aclose()
    return found


@pytest.mark.parametrize("kind", ["owned", "shared"])
async def test_a_wait_whose_connection_broke_is_not_taken_for_granted_on_the_next_one(
    pair: Replicated, hand: Hand, lane: Lane, kind: str
) -> None:
    # The next connection has written nothing of its own, so a WAIT on it would be answered at once.
    writer: StreamWriter | SharedWriter
    if kind == "owned":
        writer = hand.writer(await hand.running(), lane=lane)
    else:
        writer = SharedWriter(lane, hand.keys, "chat", lifetimes=LIFETIMES, max_events=0, patience_seconds=60)
    await writer.emit(Draft("t", "1"))
    await writer.flush()
    pair.replica.pause()
    await writer.emit(Draft("t", "2"))
    flushing = asyncio.ensure_future(writer.flush())
    assert await waits(flushing, seconds=0.3)
    await _cut(hand.client)
    assert await waits(flushing, seconds=1)
    pair.replica.resume()
    await asyncio.wait_for(flushing, 30)
    if isinstance(writer, SharedWriter):
        writer.close()
        assert [event.data for event in await hand.log("chat")] == ["1", "2"]
    else:
        await writer.__aexit__()
        assert await numbers(hand) == ["1", "2"]


async def _cut(client: AsyncClient) -> None:
    """Break every connection but this one."""
    await execute(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def test_a_master_that_was_demoted_is_left_and_what_is_unknown_is_repaired_on_the_new_one(
    pair: Replicated, hand: Hand, lane: Lane, keys: Keys
) -> None:
    async with hand.writer(await hand.running(), lane=lane) as writer:
        await emit(writer, 1)
        await writer.flush()
        pair.leave_behind()
        await emit(writer, 2, 3)
        flushing = asyncio.ensure_future(writer.flush())
        assert await waits(flushing)
        pair.fail_over()
        pair.replica.command("CONFIG", "SET", "min-replicas-to-write", "0")
        third = RedisServer(options=("--replicaof", f"127.0.0.1 {_listen(pair.replica)}"))
        with third:
            await asyncio.wait_for(flushing, 60)
    promoted = connect(pair.url, name="promoted")
    assert await numbers(Hand(promoted, keys)) == ["1", "2", "3"]
    await promoted.aclose()


def _listen(server: RedisServer) -> int:
    """Have it listen on a port too, so that another may replicate it."""
    port = unused_port()
    server.command("CONFIG", "SET", "port", port)
    return port


async def test_a_publisher_over_http_is_answered_once_a_replica_has_it(
    pair: Replicated, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    [first] = await log.publish("chat", [Draft("t", "1")], token="a")
    pair.replica.pause()
    publishing = asyncio.ensure_future(log.publish("chat", [Draft("t", "2")], token="b"))
    assert await waits(publishing)
    pair.replica.resume()
    [second] = await asyncio.wait_for(publishing, 30)
    assert second == first.next()
    assert [event.data for event in await Hand(client, keys).log("chat")] == ["1", "2"]


async def test_a_publish_that_no_replica_confirms_is_unknown_and_asking_again_stores_it_once(
    pair: Replicated, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    await log.publish("chat", [Draft("t", "1")])
    before = waits_made(pair)
    pair.replica.pause()
    with in_vain(), pytest.raises(NotDurable, match="may be lost still"):
        await log.publish("chat", [Draft("t", "2")], token="a")
    # It has been waited for as long as a publisher is held, and not once more for each try.
    assert waits_made(pair) - before == 5
    pair.replica.resume()
    await log.publish("chat", [Draft("t", "2")], token="a")
    assert [event.data for event in await Hand(client, keys).log("chat")] == ["1", "2"]


async def test_events_that_were_written_before_redis_refused_more_are_not_said_to_be_refused(
    pair: Replicated, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    pair.replica.pause()
    publishing = asyncio.ensure_future(log.publish("chat", [Draft("t", "1")], token="a"))

    async def is_written() -> bool:
        return bool(await Hand(client, keys).log("chat"))

    await wait_until(is_written, description="the event is written")
    pair.master.command("CONFIG", "SET", "min-replicas-to-write", "2")
    with pytest.raises(LogUnavailable) as refused:
        await asyncio.wait_for(publishing, 30)
    assert (type(refused.value), refused.value.code) == (LogUnavailable, "NOREPLICAS")
    with pytest.raises(NotStored):
        await log.publish("chat", [Draft("t", "2")], token="b")
    pair.master.command("CONFIG", "SET", "min-replicas-to-write", "0")
    assert [event.data for event in await Hand(client, keys).log("chat")] == ["1"]
    pair.replica.resume()


def waits_made(pair: Replicated) -> int:
    about = cast("dict[str, dict[str, int]]", pair.master.command("INFO", "commandstats"))
    return about.get("cmdstat_wait", {}).get("calls", 0)


@pytest.fixture
async def lossy(
    pair: Replicated, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[Awaitable[T]], Awaitable[T]]]:
    """Do something of which the replica does not get the first try, and takes the master's place before the next."""
    original = durability_module.execute_together
    is_over = False

    async def first_try_is_lost(client: AsyncClient, *commands: Command) -> list[Any]:
        nonlocal is_over
        replies = await original(client, *commands)
        if not is_over:
            is_over = True
            pair.fail_over()
            await leave_connections(client)
        return replies

    async def lossy(action: Awaitable[T]) -> T:
        pair.leave_behind()
        monkeypatch.setattr(durability_module, "execute_together", first_try_is_lost)
        result = await asyncio.wait_for(asyncio.ensure_future(action), 20)
        assert is_over
        return result

    port = _listen(pair.replica)
    with RedisServer(options=("--repl-diskless-sync-delay", "0", "--replicaof", f"127.0.0.1 {port}")):
        yield lossy


async def leave_connections(client: AsyncClient) -> None:
    await cast("Any", client).connection_pool.disconnect()


async def test_a_publisher_is_told_the_ids_that_outlive_a_failover_and_not_those_it_lost(
    client: AsyncClient, keys: Keys, lossy: Any
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    [before] = await log.publish("chat", [Draft("t", "1")], token="a")
    ids = await lossy(log.publish("chat", [Draft("t", "2"), Draft("t", "3")], token="b"))
    found = await Hand(client, keys).log("chat")
    assert [event.data for event in found] == ["1", "2", "3"]
    assert [event.id for event in found] == [before, *ids]
    assert ids[0].generation > before.generation


async def test_each_try_of_a_publish_draws_its_generation_anew(
    pair: Replicated, client: AsyncClient, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a failover the same number could make the generation that was lost once more, for other events.
    drawn: list[int] = []
    original = calls.publish

    def noted(*args: Any, entropy: int, **given: Any) -> Any:
        drawn.append(entropy)
        return original(*args, entropy=entropy, **given)

    monkeypatch.setattr(calls, "publish", noted)
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    pair.replica.pause()
    with in_vain(), pytest.raises(NotDurable):
        await log.publish("chat", [Draft("t", "1")])
    assert len(drawn) == 5
    assert len(set(drawn)) > 1


async def test_a_publish_that_is_refused_is_not_held_by_a_wait_that_is_not_reached(
    pair: Replicated, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    await log.publish("chat", [Draft("t", "1")], token="a")
    pair.replica.pause()
    before = waits_made(pair)
    with pytest.raises(Conflict, match="idempotency key"):
        await log.publish("chat", [Draft("t", "2")], token="a")
    assert waits_made(pair) - before == 1


async def test_events_that_a_publisher_was_not_told_of_and_that_are_lost_are_marked_as_a_loss(
    pair: Replicated, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    await log.publish("chat", [Draft("t", "1")])
    pair.leave_behind()
    with in_vain(), pytest.raises(NotDurable):
        await log.publish("chat", [Draft("t", "2")])
    seen = (await Hand(client, keys).log("chat"))[-1]
    pair.fail_over()
    await leave_connections(client)
    await log.publish("chat", [Draft("t", "3")], may_be_lost=True)
    assert (await Hand(client, keys).log("chat"))[-1].lost == seen.id


@pytest.fixture
def store(client: AsyncClient, keys: Keys) -> TaskStore:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0)
    return TaskStore(
        client,
        keys,
        Announcer(log),
        lifetimes=LIFETIMES,
        may_judge_expired=lambda: True,
        durability=Durability.REPLICATED,
    )


async def test_a_task_whose_record_a_failover_loses_is_created_again_before_its_client_is_told(
    client: AsyncClient, keys: Keys, store: TaskStore, lossy: Any
) -> None:
    record = await lossy(store.create(NewTask("t", {})))
    assert (await store.get(record.id)).status is Status.PENDING
    assert await execute(client, "ZSCORE", keys.unfinished_index, record.id) is not None
    assert await execute(client, "XLEN", keys.ready("default", "t")) == 1


@pytest.mark.parametrize("action", ["start", "cancel"])
async def test_what_a_failover_undoes_is_done_again_before_its_client_is_told(
    action: str, client: AsyncClient, keys: Keys, store: TaskStore, lossy: Any
) -> None:
    task = await store.create(NewTask("t", {}, execute=False))
    told = await lossy(store.start(task.id) if action == "start" else store.cancel(task.id))
    found = await store.get(task.id)
    assert (found.status, found.is_queued) == (told.status, told.is_queued)
    if action == "start":
        assert found.is_queued
        assert await execute(client, "XLEN", keys.ready("default", "t")) == 1
    else:
        assert found.status is Status.CANCELLED


async def test_a_request_that_is_repeated_over_another_connection_is_not_answered_before_it_is_safe(
    pair: Replicated, client: AsyncClient, store: TaskStore
) -> None:
    # It finds everything done already, and a wait behind nothing that was written is answered at once.
    waiting = await store.create(NewTask("t", {}, execute=False))
    queued = await store.create(NewTask("t", {}))
    pair.replica.pause()
    requests: list[Callable[[], Awaitable[TaskRecord]]] = [
        lambda: store.create(NewTask("t", {}), idempotency_key="i"),
        lambda: store.create(NewTask("t", {}, unique_key="k")),
        lambda: store.start(waiting.id),
        lambda: store.cancel(queued.id),
    ]
    for request in requests:
        for _ in range(2):
            with in_vain(), pytest.raises(NotDurable):
                await request()
            await leave_connections(client)
    pair.replica.resume()
    for request in requests:
        await request()


async def test_what_is_not_safe_in_time_has_taken_effect_so_workers_and_readers_hear_of_it_all_the_same(
    pair: Replicated, client: AsyncClient, keys: Keys, store: TaskStore
) -> None:
    waiting = await store.create(NewTask("t", {}, execute=False))
    put_off = await store.create(NewTask("t", {}, delay_ms=3_600_000))
    pair.replica.pause()
    requests: list[Callable[[], Awaitable[TaskRecord]]] = [
        lambda: store.create(NewTask("t", {}), idempotency_key="i"),
        lambda: store.start(waiting.id),
        lambda: store.cancel(put_off.id),
    ]
    for request in requests:
        with in_vain(), pytest.raises(NotDurable):
            await request()
    told = [event.type for event in await Hand(client, keys).log("system")]
    assert told == ["task_created"] * 3 + ["task_updated", "task_completed"]
    pair.replica.resume()
    # Asked again, nothing is queued twice.
    created, _, _ = [await request() for request in requests]
    entries = await execute(client, "XRANGE", keys.ready("default", "t"), "-", "+")
    assert [fields[b"task"].decode() for _, fields in entries] == [created.id, waiting.id]
    assert await execute(client, "ZCARD", keys.delayed("default")) == 0


# On the disk.


@pytest.fixture
def on_disk() -> Iterator[RedisServer]:
    with RedisServer(keeps_data=True, options=("--appendfsync", "everysec")) as server:
        yield server


async def test_a_writer_counts_as_stored_what_is_on_the_disk(on_disk: RedisServer, keys: Keys) -> None:
    client = connect(on_disk.url, name="test")
    hand = Hand(client, keys)
    lane = Lane(partial(open_bulk, client), durability=Durability.FSYNC)
    async with hand.writer(await hand.running(), lane=lane) as writer:
        await emit(writer, 1)
        await writer.flush()
        on_disk.command("CONFIG", "SET", "appendfsync", "no")  # nothing is synced until the system thinks of it
        await emit(writer, 2)
        flushing = asyncio.ensure_future(writer.flush())
        assert await waits(flushing)
        on_disk.command("CONFIG", "SET", "appendfsync", "everysec")
        await asyncio.wait_for(flushing, 30)
    await lane.aclose()
    await client.aclose()
    on_disk.restart()
    survivor = connect(on_disk.url, name="survivor")
    assert await numbers(Hand(survivor, keys)) == ["1", "2"]
    await survivor.aclose()


async def test_a_file_that_is_switched_off_is_said_and_waited_for(
    on_disk: RedisServer, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(on_disk.url, name="test")
    hand = Hand(client, keys)
    lane = Lane(partial(open_bulk, client), durability=Durability.FSYNC)
    async with hand.writer(await hand.running(), lane=lane) as writer:
        await execute(client, "CONFIG", "SET", "appendonly", "no")
        await emit(writer, 1)
        flushing = asyncio.ensure_future(writer.flush())
        await wait_until(lambda: "appendonly yes" in caplog.text, description="the log says what to do")
        assert not flushing.done()
        await execute(client, "CONFIG", "SET", "appendonly", "yes")
        await asyncio.wait_for(flushing, 30)
    await lane.aclose()
    await client.aclose()
