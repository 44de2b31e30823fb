"""Attempts as readers see them: what stands, what became void, runs that begin again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.fanout import Start
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.records import TaskRecord
from tests.support.live_side import LiveSide, Reader, live_side
from tests.support.log_hand import Hand, drafts
from tests.support.waiting import wait_until

ALL = Start(all_attempts=True)


@pytest.fixture
async def side(redis_url: str, keys: Keys) -> AsyncIterator[LiveSide]:
    async with live_side(redis_url, keys, sweep_seconds=0.1) as found:
        yield found


async def until_last(reader: Reader, record: TaskRecord, sequence: int) -> None:
    await wait_until(
        lambda: reader.ids[-1:] == [f"{record.generation}-{sequence}"], description=f"{sequence} behind {reader.ids}"
    )


def ids(*pairs: tuple[TaskRecord, int]) -> list[str]:
    return [f"{record.generation}-{sequence}" for record, sequence in pairs]


async def two_attempts(hand: Hand, *, resume_at: int | None = None) -> tuple[TaskRecord, TaskRecord]:
    """0 1 2 3 by a worker that was lost, then 0 1 by its successor, which may go on from a checkpoint."""
    old = await hand.running(lease_ms=0)
    await hand.append(old, 1, drafts("1", "2", "3"))
    if resume_at is not None:
        await hand.amend(resume_from=f"{old.generation}-{resume_at}")
    new = await hand.claimed(nonce="n2")
    await hand.append(new, 1, drafts("new"), nonce="n2")
    return old, new


async def test_a_late_joiner_sees_nothing_of_an_attempt_that_became_void(hand: Hand, side: LiveSide):
    _, new = await two_attempts(hand)
    reader = await side.read("tasks.a")
    await until_last(reader, new, 1)
    assert reader.ids == ids((new, 0), (new, 1))
    assert "gap" not in reader.types


@pytest.mark.parametrize("sequence", [0, 2, 3, 40])
async def test_a_cursor_inside_what_became_void_is_led_to_the_new_attempt_without_a_gap(
    hand: Hand, side: LiveSide, sequence: int
):
    old, new = await two_attempts(hand)
    reader = await side.read("tasks.a", Start(cursor=EventId(old.generation, sequence)))
    await until_last(reader, new, 1)
    assert reader.ids == ids((new, 0), (new, 1))
    assert "gap" not in reader.types


async def test_what_stood_at_the_checkpoint_is_replayed_before_the_new_attempt(hand: Hand, side: LiveSide):
    old, new = await two_attempts(hand, resume_at=2)
    reader = await side.read("tasks.a")
    await until_last(reader, new, 1)
    assert reader.ids == ids((old, 0), (old, 1), (old, 2), (new, 0), (new, 1))
    for sequence, expected in ((1, [(old, 2), (new, 0), (new, 1)]), (3, [(new, 0), (new, 1)])):
        other = await side.read("tasks.a", Start(cursor=EventId(old.generation, sequence)))
        await until_last(other, new, 1)
        assert other.ids == ids(*expected)
        assert "gap" not in other.types


async def test_a_reader_that_watches_a_worker_being_lost_gets_the_attempt_and_goes_on(hand: Hand, side: LiveSide):
    old = await hand.running(lease_ms=0)
    reader = await side.read("tasks.a")
    await hand.append(old, 1, drafts("1", "2"))
    await until_last(reader, old, 2)
    new = await hand.claimed(nonce="n2")
    await hand.append(new, 1, drafts("new"), nonce="n2")
    await until_last(reader, new, 1)
    assert (await hand.append(old, 3, drafts("zombie"))).outcome == "fenced"
    assert reader.ids == ids((old, 0), (old, 1), (old, 2), (new, 0), (new, 1))
    [_, attempt] = await reader.until("attempt", count=2)
    assert attempt.json() == {"attempt": 2, "reason": "worker_lost", "error": None, "resume_from": None}


async def test_a_reader_of_all_attempts_sees_every_one_in_order(hand: Hand, side: LiveSide):
    old, new = await two_attempts(hand)
    reader = await side.read("tasks.a", ALL)
    await until_last(reader, new, 1)
    assert reader.ids == ids((old, 0), (old, 1), (old, 2), (old, 3), (new, 0), (new, 1))
    assert "gap" not in reader.types


async def test_both_views_of_a_task_are_live_side_by_side(hand: Hand, side: LiveSide):
    old = await hand.running(lease_ms=0)
    await hand.append(old, 1, drafts("1"))
    new = await hand.claimed(nonce="n2")
    standing, everything = await side.read("tasks.a"), await side.read("tasks.a", ALL)
    await hand.finish(new, 1, nonce="n2")
    for reader in (standing, everything):
        await reader.end()
    assert standing.ids == ids((new, 0), (new, 1))
    assert everything.ids == ids((old, 0), (old, 1), (new, 0), (new, 1))


# A run that begins again.


async def rerun(hand: Hand) -> TaskRecord:
    assert (await hand.start(rerun_of=1)).outcome == "started"
    return await hand.claimed(nonce="n2")


async def test_joiners_of_a_task_that_runs_again_get_nothing_of_the_old_run(hand: Hand, side: LiveSide):
    old = await hand.ended()
    assert (await hand.start(rerun_of=1)).outcome == "started"
    waiting = [
        await side.read("tasks.a"),
        await side.read("tasks.a", Start(cursor=EventId(old.generation, 0))),
        await side.read("tasks.a", Start(cursor=EventId(old.generation, 1))),
    ]
    for reader in waiting:
        await reader.until("position")
    new = await hand.claimed(nonce="n2")
    waiting.append(await side.read("tasks.a"))
    await hand.finish(new, 1, nonce="n2")
    for reader in waiting:
        await reader.end()
        assert reader.ids == ids((new, 0), (new, 1))
        assert "gap" not in reader.types


async def test_a_reader_of_all_attempts_of_a_task_that_runs_again_sees_both_runs(hand: Hand, side: LiveSide):
    old = await hand.ended()
    new = await rerun(hand)
    await hand.finish(new, 1, nonce="n2")
    reader = await side.read("tasks.a", ALL)
    await reader.end()
    assert reader.ids == ids((old, 0), (old, 1), (new, 0), (new, 1))


@pytest.mark.parametrize("start", [Start(), ALL])
async def test_the_old_end_ends_nobody_who_joins_while_a_slow_reader_still_holds_the_stream(
    hand: Hand, side: LiveSide, start: Start
):
    old = await hand.running()
    slow = await side.hub.subscribe("tasks.a", start)
    fast = await side.read("tasks.a", start)
    await hand.finish(old, 1)
    await fast.end()
    assert (await hand.start(rerun_of=1)).outcome == "started"
    joiner = await side.read("tasks.a", Start(cursor=EventId(old.generation, 1), all_attempts=start.all_attempts))
    await joiner.until("position")
    new = await hand.claimed(nonce="n2")
    await hand.finish(new, 1, nonce="n2")
    await joiner.end()
    assert joiner.ids == ids((new, 0), (new, 1))
    slow.close()


async def test_a_task_cancelled_before_it_ran_ends_its_readers(hand: Hand, side: LiveSide):
    await hand.create()
    reader = await side.read("tasks.a")
    await reader.until("position")
    await hand.settle()
    await reader.end()
    assert reader.types == ["position", "cancelled"]


async def test_a_reaped_task_keeps_what_stood_and_ends_behind_it(hand: Hand, side: LiveSide):
    old = await hand.running(lease_ms=0)
    await hand.append(old, 1, drafts("1", "2"))
    reader = await side.read("tasks.a")
    await until_last(reader, old, 2)
    end = await hand.settle(mode="reap")
    await reader.end()
    late = await side.read("tasks.a")
    await late.end()
    assert reader.ids == late.ids == [*ids((old, 0), (old, 1), (old, 2)), str(end.id)]
    assert "gap" not in reader.types + late.types


async def test_a_zombie_that_writes_between_two_looks_reaches_nobody(hand: Hand, side: LiveSide):
    old = await hand.running(lease_ms=0)
    reader = await side.read("tasks.a")
    await until_last(reader, old, 0)
    replies = await asyncio.gather(
        hand.claim(nonce="n2"), hand.append(old, 1, drafts("zombie")), hand.claim(nonce="n3"), return_exceptions=False
    )
    claimed = replies[0].record
    assert claimed
    assert replies[2].outcome == "held"
    await until_last(reader, claimed, 0)
    assert reader.ids[-1] == ids((claimed, 0))[0]
