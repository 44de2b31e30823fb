"""The writer of a task's stream on a real server: lost replies, lost data, rivals, and a Redis that stays away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from server.streams.connections import AsyncClient, connect, execute
from server.streams.errors import Fenced
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.lease import Lease, boot_seconds
from server.streams.records import Status
from server.streams.writer import StreamWriter
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import Hand
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

#: More than the writer holds unsent before `emit` waits.
_ENOUGH = 4000


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as found:
        yield found


@pytest.fixture
async def faulty(proxy: FaultProxy, keys: Keys) -> AsyncIterator[Hand]:
    """A hand whose connection goes through the proxy."""
    client = connect(proxy.url, name="faulty")
    yield Hand(client, keys)
    await client.aclose()


async def emit(writer: StreamWriter, *numbers: int) -> list[EventId]:
    return [await writer.emit(Draft("t", str(number))) for number in numbers]


async def stored(hand: Hand) -> list[tuple[int, str]]:
    """Sequence and data of what tasks emitted and of the end."""
    return [(event.id.sequence, event.data) for event in await hand.task_log() if event.type != "attempt"]


def numbered(*numbers: int) -> list[tuple[int, str]]:
    return [(number, str(number)) for number in numbers]


async def test_events_are_stored_in_the_order_of_emit_under_the_ids_it_gave(hand: Hand):
    record = await hand.running()
    async with hand.writer(record) as writer:
        ids = await emit(writer, *range(1, 2501))
        await writer.flush()
        assert writer.stored == ids[-1] == EventId(record.generation, 2500)
    assert await stored(hand) == numbered(*range(1, 2501))


async def test_fields_of_the_record_change_in_the_same_step_as_the_append(hand: Hand):
    async with hand.writer(await hand.running()) as writer:
        found = await writer.emit(Draft("progress", "{}"), {"progress": "50"})
        await writer.flush()
    fields = await hand.fields()
    assert (fields["progress"], fields["last_id"]) == ("50", str(found))


async def test_finishing_ends_the_stream_and_nothing_is_taken_in_behind_it(hand: Hand):
    async with hand.writer(await hand.running()) as writer:
        await emit(writer, 1)
        end = await writer.finish(Status.FAILED, '{"error":"e","code":"c"}')
        with pytest.raises(RuntimeError, match="terminal"):
            await emit(writer, 2)
        await writer.verify()
    assert [(event.id, event.type) for event in await hand.task_log()][-1] == (end, "error")
    fields = await hand.fields()
    assert (fields["status"], fields["end"], fields["last_id"]) == ("failed", '{"error":"e","code":"c"}', str(end))


# Lost requests and replies.


@pytest.mark.parametrize("times", [1, 3])
async def test_an_append_whose_reply_was_lost_is_stored_once(hand: Hand, faulty: Hand, proxy: FaultProxy, times: int):
    async with faulty.writer(await faulty.running()) as writer:
        happened = [proxy.lose_reply("append") for _ in range(times)]
        await emit(writer, 1, 2, 3)
        await writer.flush()
        assert all(each.is_set() for each in happened)
        await emit(writer, 4)
        await writer.flush()
    assert await stored(hand) == numbered(1, 2, 3, 4)


async def test_an_append_that_was_lost_on_its_way_is_sent_again(hand: Hand, faulty: Hand, proxy: FaultProxy):
    async with faulty.writer(await faulty.running()) as writer:
        happened = proxy.lose_request("append")
        await emit(writer, 1, 2)
        await writer.flush()
        assert happened.is_set()
    assert await stored(hand) == numbered(1, 2)


async def test_events_emitted_while_a_reply_is_lost_go_behind_those_of_the_batch(
    hand: Hand, faulty: Hand, proxy: FaultProxy
):
    async with faulty.writer(await faulty.running()) as writer:
        happened = proxy.lose_reply("append", meanwhile=lambda: emit(writer, 2, 3))
        await emit(writer, 1)
        await writer.flush()
        await happened.wait()
        await writer.flush()
    assert await stored(hand) == numbered(1, 2, 3)


async def test_a_field_whose_append_lost_its_reply_is_stored(hand: Hand, faulty: Hand, proxy: FaultProxy):
    async with faulty.writer(await faulty.running()) as writer:
        proxy.lose_request("append")
        proxy.lose_reply("append")
        await writer.emit(Draft("progress", "{}"), {"progress": "50"})
        await writer.flush()
    assert (await hand.fields())["progress"] == "50"


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
async def test_a_task_ends_once_although_the_answer_to_its_end_was_lost(
    hand: Hand, faulty: Hand, proxy: FaultProxy, fault: str
):
    async with faulty.writer(await faulty.running()) as writer:
        await emit(writer, 1)
        await writer.flush()
        happened = getattr(proxy, fault)("append")
        end = await writer.finish(Status.COMPLETED, '{"result":1}')
        assert happened.is_set()
        await writer.verify()
    assert await stored(hand) == [(1, "1"), (2, '{"result":1}')]
    assert ((await hand.fields())["status"], (await hand.fields())["last_id"]) == ("completed", str(end))


async def test_a_writer_goes_on_after_redis_forgot_its_scripts(hand: Hand):
    async with hand.writer(await hand.running()) as writer:
        await emit(writer, 1)
        await writer.flush()
        await execute(hand.client, "SCRIPT", "FLUSH")
        await emit(writer, 2)
        await writer.flush()
    assert await stored(hand) == numbered(1, 2)


async def test_a_caller_that_is_cancelled_while_it_flushes_loses_nothing(hand: Hand, faulty: Hand, proxy: FaultProxy):
    async with faulty.writer(await faulty.running()) as writer:
        proxy.go_down()
        await emit(writer, 1, 2)
        flushing = asyncio.create_task(writer.flush())
        await asyncio.wait({flushing}, timeout=0.05)
        flushing.cancel()
        proxy.come_back()
        await writer.flush()
    assert await stored(hand) == numbered(1, 2)


# Lost data.


async def test_a_log_deleted_in_mid_stream_is_written_back_under_the_same_ids(hand: Hand):
    async with hand.writer(await hand.running()) as writer:
        await emit(writer, 1, 2, 3)
        await writer.flush()
        before = await hand.task_log()
        await hand.lose_log()
        await emit(writer, 4)
        await writer.flush()
    after = await hand.task_log()
    assert [(event.id, event.type, event.data) for event in after[:-1]] == [
        (event.id, event.type, event.data) for event in before
    ]
    assert await stored(hand) == numbered(1, 2, 3, 4)


async def test_an_emptied_redis_gets_log_record_and_lease_back_and_others_are_told(hand: Hand):
    record = await hand.running()
    repairs: list[str] = []
    async with hand.writer(record) as writer:
        writer.on_repair = lambda: repairs.append("repaired")
        await writer.emit(Draft("t", "1"), {"progress": "10"})
        await writer.flush()
        before = await hand.fields()
        await execute(hand.client, "FLUSHALL")
        await emit(writer, 2)
        await writer.flush()
        after = await hand.fields()
        assert repairs == ["repaired"]
        assert (await hand.claim(nonce="n2")).outcome == "held"
        await writer.finish(Status.COMPLETED, '{"result":1}')
    changing = {"updated_at", "lease_until", "last_id"}
    assert {name: after.get(name) for name in before if name not in changing} == {
        name: value for name, value in before.items() if name not in changing
    }
    assert await stored(hand) == [*numbered(1, 2), (3, '{"result":1}')]
    assert (await hand.fields())["status"] == "completed"


async def test_a_record_that_alone_was_lost_is_written_back(hand: Hand):
    async with hand.writer(await hand.running()) as writer:
        await emit(writer, 1)
        await writer.flush()
        await hand.lose_record()
        await emit(writer, 2)
        await writer.flush()
    fields = await hand.fields()
    assert (fields["status"], fields["owner"], fields["type"]) == ("running", "n1", "t")
    assert await stored(hand) == numbered(1, 2)


async def test_a_quiet_task_repairs_when_it_is_asked_to_look(hand: Hand):
    async with hand.writer(await hand.running()) as writer:
        await emit(writer, 1)
        await writer.flush()
        await hand.lose_log()
        await writer.verify()
        assert await stored(hand) == numbered(1)
        await hand.lose_log()
        writer.probe()
        await wait_until(hand.task_log, description="the log is back")
    assert await stored(hand) == numbered(1)


async def test_a_finished_task_whose_end_was_lost_with_everything_gets_it_back(hand: Hand):
    async with hand.writer(await hand.running()) as writer:
        await emit(writer, 1)
        await writer.finish(Status.COMPLETED, '{"result":1}')
        await execute(hand.client, "FLUSHALL")
        await writer.verify()
    assert (await hand.fields())["status"] == "completed"
    snapshot = await hand.read("tasks.a")
    assert (snapshot.is_closed, len(snapshot.events)) == (True, 3)
    assert snapshot.record
    assert snapshot.record.last_id == snapshot.last_id


async def test_a_repair_whose_reply_is_lost_is_made_once(hand: Hand, faulty: Hand, proxy: FaultProxy):
    async with faulty.writer(await faulty.running()) as writer:
        await emit(writer, 1, 2)
        await writer.flush()
        await hand.lose_log()
        happened = proxy.lose_reply("repair")
        await emit(writer, 3)
        await writer.flush()
        assert happened.is_set()
    assert await stored(hand) == numbered(1, 2, 3)


# Rivals.


async def test_a_writer_whose_successor_has_claimed_is_fenced_and_adds_nothing(hand: Hand):
    async with hand.writer(await hand.running(lease_ms=0)) as writer:
        rival = await hand.claimed(nonce="n2")
        await emit(writer, 1)
        with pytest.raises(Fenced, match="another run owns it"):
            await writer.flush()
        with pytest.raises(Fenced):
            await emit(writer, 2)
        with pytest.raises(Fenced):
            await writer.finish(Status.COMPLETED, "{}")
    assert await stored(hand) == []
    assert (await hand.fields())["generation"] == str(rival.generation)


async def test_a_writer_whose_successor_finished_and_expired_is_fenced(hand: Hand):
    async with hand.writer(await hand.running(lease_ms=0)) as writer:
        await hand.finish(await hand.claimed(nonce="n2"), 1, nonce="n2")
        await hand.lose_log()
        await emit(writer, 1)
        with pytest.raises(Fenced):
            await writer.flush()
    assert await hand.task_log() == ()
    assert (await hand.fields())["status"] == "completed"


async def test_a_writer_that_is_fenced_from_outside_wakes_everybody_who_waits(
    hand: Hand, faulty: Hand, proxy: FaultProxy
):
    async with faulty.writer(await faulty.running()) as writer:
        proxy.go_down()
        await emit(writer, 1)
        waiting = [asyncio.create_task(writer.flush()) for _ in range(3)]
        await asyncio.wait(waiting, timeout=0.02)
        writer.fence("the test says so")
        for each in waiting:
            with pytest.raises(Fenced, match="the test says so"):
                await asyncio.wait_for(each, 30)
        proxy.come_back()
    assert await stored(hand) == []


async def test_a_cancelled_task_ended_by_another_process_fences_its_writer(hand: Hand):
    async with hand.writer(await hand.running(lease_ms=0)) as writer:
        assert (await hand.settle()).outcome == "settled"
        with pytest.raises(Fenced):
            await writer.verify()
    assert [event.type for event in await hand.task_log()] == ["attempt", "cancelled"]


# The lease by the writer's own clock.


async def test_a_writer_whose_lease_ran_out_by_its_own_clock_renews_before_it_writes(
    hand: Hand, faulty: Hand, proxy: FaultProxy
):
    record = await faulty.running()
    proxy.passed.clear()
    lease = Lease(10, asked_at=boot_seconds() - 60)
    async with faulty.writer(record, lease=lease) as writer:
        await emit(writer, 1)
        await writer.flush()
    assert proxy.passed == ["renew", "append"]
    assert lease.is_fresh
    assert await stored(hand) == numbered(1)


@pytest.mark.parametrize("loss", ["taken", "absent"])
async def test_a_writer_whose_lease_ran_out_and_is_not_renewed_stops(hand: Hand, loss: str):
    record = await hand.running(lease_ms=0)
    if loss == "taken":
        await hand.claimed(nonce="n2")
    else:
        await hand.lose_record()
    async with hand.writer(record, lease=Lease(10, asked_at=boot_seconds() - 60)) as writer:
        await emit(writer, 1)
        with pytest.raises(Fenced, match="lease"):
            await writer.flush()
    assert await stored(hand) == []


# A Redis that stays away.


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def impatient(own_server: RedisServer) -> AsyncIterator[AsyncClient]:
    """A client that takes silence for an outage soon."""
    client = connect(own_server.url, name="impatient", socket_timeout=3.0)
    yield client
    await client.aclose()


async def test_emit_waits_while_redis_is_frozen_and_goes_on_afterwards(
    own_server: RedisServer, impatient: AsyncClient, keys: Keys
):
    hand = Hand(impatient, keys)
    async with hand.writer(await hand.running()) as writer:
        own_server.pause()
        await emit(writer, *range(1, _ENOUGH + 1))
        waiting = asyncio.create_task(emit(writer, _ENOUGH + 1))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done, "emit took in more than it may hold"
        own_server.resume()
        await asyncio.wait_for(waiting, 30)
        await writer.flush()
    assert await stored(hand) == numbered(*range(1, _ENOUGH + 2))


async def test_emit_waits_for_large_events_before_there_are_many(
    own_server: RedisServer, impatient: AsyncClient, keys: Keys
):
    hand = Hand(impatient, keys)
    async with hand.writer(await hand.running()) as writer:
        own_server.pause()
        for _ in range(4):
            await writer.emit(Draft("t", "x" * (1 << 20)))
        waiting = asyncio.create_task(writer.emit(Draft("t", "last")))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        own_server.resume()
        await asyncio.wait_for(waiting, 30)
        await writer.flush()
    assert [len(data) for _, data in await stored(hand)] == [1 << 20] * 4 + [4]


async def test_a_redis_that_died_with_its_data_gets_it_back_when_it_returns_empty(
    own_server: RedisServer, impatient: AsyncClient, keys: Keys
):
    hand = Hand(impatient, keys)
    async with hand.writer(await hand.running()) as writer:
        await emit(writer, 1, 2)
        await writer.flush()
        own_server.kill()
        await emit(writer, 3)
        own_server.start()
        await asyncio.wait_for(writer.flush(), 30)
    assert await stored(hand) == numbered(1, 2, 3)
    assert (await hand.fields())["status"] == "running"


async def test_a_redis_that_refuses_writes_makes_the_writer_wait_and_loses_nothing(
    own_server: RedisServer, impatient: AsyncClient, keys: Keys
):
    hand = Hand(impatient, keys)
    async with hand.writer(await hand.running()) as writer:
        await execute(impatient, "CONFIG", "SET", "maxmemory", "1")
        await emit(writer, 1)
        flushing = asyncio.create_task(writer.flush())
        done, _ = await asyncio.wait({flushing}, timeout=0.2)
        assert not done
        await execute(impatient, "CONFIG", "SET", "maxmemory", "0")
        await asyncio.wait_for(flushing, 30)
    assert await stored(hand) == numbered(1)
