"""What the writer of an ended task takes for a loss, and what for the expiry that it asked for itself."""

from __future__ import annotations

import pytest

from server.streams.calls import Lifetimes
from server.streams.connections import execute
from server.streams.event import Draft
from server.streams.lease import boot_seconds
from server.streams.names import task_stream
from server.streams.records import Status
from server.streams.writer import StreamWriter
from tests.support.ears import listening
from tests.support.log_hand import Hand
from tests.support.waiting import wait_until

SOON_MS, LATER_MS = 50, 3_600_000


async def keys_of(hand: Hand) -> tuple[int, int]:
    """Whether log and record are there."""
    log, record = hand.keys.log(task_stream("a")), hand.keys.record("a")
    return await execute(hand.client, "EXISTS", log), await execute(hand.client, "EXISTS", record)


async def until_left(hand: Hand, log_and_record: tuple[int, int]) -> None:
    async def is_left() -> bool:
        return await keys_of(hand) == log_and_record

    await wait_until(is_left, description=f"of log and record {log_and_record} are left")


async def finish(writer: StreamWriter) -> None:
    await writer.emit(Draft("t", "1"))
    await writer.finish(Status.COMPLETED, '{"result":1}')


async def test_what_has_expired_after_the_end_is_not_written_back(hand: Hand, caplog: pytest.LogCaptureFixture):
    lifetimes = Lifetimes(retention_ms=SOON_MS, record_ms=SOON_MS)
    async with hand.writer(await hand.running(), lifetimes=lifetimes) as writer:
        await finish(writer)
        await until_left(hand, (0, 0))
        await writer.verify()
    assert await keys_of(hand) == (0, 0)
    assert "lost" not in caplog.text


async def test_a_record_that_was_lost_after_its_log_expired_is_written_back_alone(
    hand: Hand, caplog: pytest.LogCaptureFixture
):
    lifetimes = Lifetimes(retention_ms=SOON_MS, record_ms=LATER_MS)
    async with hand.writer(await hand.running(), lifetimes=lifetimes) as writer:
        await finish(writer)
        await until_left(hand, (0, 1))
        await writer.verify()
        assert "lost" not in caplog.text
        before = await hand.fields()
        await hand.lose_record()
        await writer.verify()
    assert await keys_of(hand) == (0, 1)
    assert 0 < await execute(hand.client, "PTTL", hand.keys.record("a")) <= LATER_MS
    after = await hand.fields()
    assert {name: after[name] for name in ("status", "end", "last_id")} == {
        name: before[name] for name in ("status", "end", "last_id")
    }
    assert "Redis lost the record of task a; it was written back" in caplog.text


@pytest.mark.parametrize("record_ms", [LATER_MS, SOON_MS])
async def test_an_end_that_a_failover_lost_is_written_back_and_rung_past_the_time_of_its_log_too(
    hand: Hand, redis_url: str, caplog: pytest.LogCaptureFixture, record_ms: int
):
    """The promoted replica has log and record as they were before the end: they expire much later."""
    lifetimes = Lifetimes(retention_ms=SOON_MS, record_ms=record_ms)
    names = (hand.keys.log(task_stream("a")), hand.keys.record("a"))
    async with hand.writer(await hand.running(), lifetimes=lifetimes) as writer:
        await writer.emit(Draft("t", "1"))
        await writer.flush()
        dumps = [await execute(hand.client, "DUMP", name) for name in names]
        end = await writer.finish(Status.COMPLETED, '{"result":1}')
        await wait_until(lambda: is_past(writer), description="the log may have expired")
        for name, dump in zip(names, dumps, strict=True):
            await execute(hand.client, "RESTORE", name, LATER_MS, dump, "REPLACE")
        async with listening(redis_url) as ears:
            await ears.bells.watch(hand.keys.bell(task_stream("a")), ears.rung.append)
            await writer.verify()
            await wait_until(lambda: bool(ears.rung), description="readers are told the end")
    assert str(end).encode() in ears.rung[0]
    assert "Redis lost data of task a; writing 3 events back" in caplog.text


def is_past(writer: StreamWriter) -> bool:
    expiry = writer._expiry
    return expiry is not None and boot_seconds() >= expiry.log_at


async def test_what_is_missing_before_its_time_was_lost(hand: Hand, caplog: pytest.LogCaptureFixture):
    lifetimes = Lifetimes(retention_ms=LATER_MS, record_ms=LATER_MS)
    async with hand.writer(await hand.running(), lifetimes=lifetimes) as writer:
        await finish(writer)
        await execute(hand.client, "FLUSHALL")
        await writer.verify()
    assert await keys_of(hand) == (1, 1)
    assert "Redis lost data of task a; writing 3 events back" in caplog.text
