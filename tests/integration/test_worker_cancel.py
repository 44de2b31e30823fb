"""Cancelling: pending, running, threaded and stubborn tasks."""

import asyncio
import logging
from typing import Any

import pytest

from server.streams.calls import Claimed
from server.streams.records import Status
from tests.support.waiting import wait_until
from tests.support.working import Bench, working
from tests.tasks.awkward import may_end
from workers import invocation
from workers.intake import Intake
from workers.renewal import LeaseKeeper


async def test_a_pending_task_is_cancelled_at_once_and_never_run(redis_url: str, bench: Bench) -> None:
    task_id = await bench.create("wait")
    assert (await bench.store.cancel(task_id)).status is Status.CANCELLED
    async with working(redis_url):
        await bench.queue_is_empty()
    assert await bench.types(task_id) == ["cancelled"]


@pytest.mark.parametrize("task_type", ["wait", "wait_in_thread", "watch_cancelled"])
async def test_a_running_task_is_told_of_its_cancellation_and_ends(
    redis_url: str, bench: Bench, task_type: str
) -> None:
    # With a lease this long the next renewal would come too late: it is the nudge that does it.
    async with working(redis_url, lease_seconds=3600):
        task_id = await bench.create(task_type)
        await bench.has_emitted(task_id, "waiting")
        assert (await bench.store.cancel(task_id)).status is Status.RUNNING
        record = await bench.end(task_id)
        assert record.status is Status.CANCELLED
        events = await bench.events(task_id)
        assert [event.type for event in events].count("cancelled") == 1
        assert (events[-1].type, events[-1].data, events[-1].is_terminal) == ("cancelled", "{}", True)


async def test_a_cancellation_between_the_claim_and_the_first_renewal_is_heard(
    redis_url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The claim is granted, its reply is not noted yet, and the nudge comes and goes.
    ask, renew_now = Intake._ask, LeaseKeeper.renew_now
    nudged = asyncio.Event()

    def noted(keeper: LeaseKeeper) -> None:
        renew_now(keeper)
        nudged.set()

    async def then_cancelled(intake: Intake, task_id: str, nonce: str) -> Claimed:
        claimed = await ask(intake, task_id, nonce)
        nudged.clear()
        assert (await bench.store.cancel(task_id)).status is Status.RUNNING
        await asyncio.wait_for(nudged.wait(), 5)
        return claimed

    monkeypatch.setattr(LeaseKeeper, "renew_now", noted)
    monkeypatch.setattr(Intake, "_ask", then_cancelled)
    async with working(redis_url, lease_seconds=120):  # the next renewal comes too late
        task_id = await bench.create("wait")
        record = await bench.end(task_id)
    assert (record.status, record.attempt) == (Status.CANCELLED, 1)


async def test_a_cancellation_is_found_by_the_next_renewal_if_nobody_nudges(redis_url: str, bench: Bench) -> None:
    async with working(redis_url):
        task_id = await bench.create("wait")
        await bench.has_emitted(task_id, "waiting")
        generation = (await bench.events(task_id))[0].id.generation
        await bench.client.execute_command("HSET", bench.keys.record(task_id), "cancel", str(generation))
        assert (await bench.end(task_id)).status is Status.CANCELLED


async def test_a_function_that_ignores_its_cancellation_is_abandoned_and_silenced(
    redis_url: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _shorten_grace(monkeypatch)
    async with working(redis_url):
        task_id = await bench.create("ignore_cancellation")
        await bench.has_emitted(task_id, "still.here")
        await bench.store.cancel(task_id)
        assert (await bench.end(task_id)).status is Status.CANCELLED
        length = len(await bench.events(task_id))
        await bench.end(await bench.create("tell_attempt"))
        assert len(await bench.events(task_id)) == length
        may_end.add(task_id)
    said = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert any(task_id in message and "goes on" in message for message in said)


async def test_cancelling_an_ended_task_changes_nothing(redis_url: str, bench: Bench) -> None:
    async with working(redis_url):
        task_id = await bench.create("tell_attempt")
        await bench.end(task_id)
        assert (await bench.store.cancel(task_id)).status is Status.COMPLETED
        assert await bench.types(task_id) == ["attempt", "complete"]


async def test_a_slot_is_free_again_after_a_cancellation(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, concurrency=1):
        waiting = await bench.create("wait")
        await bench.has_emitted(waiting, "waiting")
        following = await bench.create("tell_attempt")
        await wait_until(bench.queue_length, description="the second task is queued")
        assert (await bench.store.get(following)).status is Status.PENDING
        await bench.store.cancel(waiting)
        await bench.end(following)


def _shorten_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop(self: Any, reason: str, *, grace_seconds: float = 0.2) -> bool:
        return await original(self, reason, grace_seconds=0.2)

    original = invocation.Invocation.stop
    monkeypatch.setattr(invocation.Invocation, "stop", stop)
