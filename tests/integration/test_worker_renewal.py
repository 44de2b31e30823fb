"""The thread that keeps leases: many renewals in few round trips, and one that is refused stops no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from server.streams import calls
from server.streams.calls import Call, Renewal
from server.streams.connections import connect_sync, execute
from server.streams.ids import EventId
from server.streams.lease import Lease, boot_seconds
from server.streams.names import task_stream
from server.streams.ready import QueueEntry
from tests.support.log_hand import LIFETIMES, Hand
from tests.support.waiting import wait_until
from workers.renewal import Held, LeaseKeeper

LEASE_MS = 60_000


@pytest.fixture
async def keeper(hand: Hand, redis_url: str) -> AsyncIterator[LeaseKeeper]:
    found = LeaseKeeper(
        connect_sync(redis_url, name="keeper"), hand.keys, consumer="w", lease_ms=LEASE_MS, lifetimes=LIFETIMES
    )
    yield found
    found.stop()


async def held(hand: Hand, task_id: str, heard: list[tuple[str, Renewal]]) -> Held:
    """A task that is running, with a lease that has run out by the worker's clock."""
    record = await hand.running(task_id)
    return Held(
        QueueEntry(hand.keys.ready("default", "t"), "1-1", task_id),
        "n1",
        Lease(LEASE_MS / 1000, asked_at=boot_seconds() - LEASE_MS / 1000),
        lambda: EventId(record.generation, 0),
        lambda renewal: heard.append((task_id, renewal)),
    )


async def test_many_leases_are_renewed_in_few_round_trips(hand: Hand, keeper: LeaseKeeper):
    heard: list[tuple[str, Renewal]] = []
    everything = [await held(hand, f"t{number}", heard) for number in range(150)]
    for each in everything:
        keeper.hold(each)
    await execute(hand.client, "SCRIPT", "FLUSH")  # as after a restart, when everybody renews at once
    await execute(hand.client, "CONFIG", "RESETSTAT")
    keeper.start()
    await wait_until(lambda: all(each.lease.is_fresh for each in everything), description="every lease is renewed")
    reads = int((await execute(hand.client, "INFO", "stats"))["total_reads_processed"])
    assert heard == []
    assert reads < 50


async def test_what_a_renewal_finds_is_told_to_its_own_attempt(hand: Hand, keeper: LeaseKeeper):
    heard: list[tuple[str, Renewal]] = []
    everything = [await held(hand, name, heard) for name in ("well", "gone", "cancelled", "short")]
    await hand.lose_record("gone")
    await hand.settle("cancelled")
    await hand.lose_log("short")
    for each in everything:
        keeper.hold(each)
    keeper.start()
    await wait_until(lambda: len(heard) == 3, description="three attempts are told")
    assert sorted(heard, key=lambda each: each[0]) == [
        ("cancelled", Renewal("renewed", is_cancel_requested=True)),
        ("gone", Renewal("absent")),
        ("short", Renewal("renewed", is_intact=False)),
    ]
    assert [each.lease.is_fresh for each in everything] == [True, False, True, True]


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_task_that_hangs_is_given_away_once_even_if_the_first_reply_was_lost(
    hand: Hand, keeper: LeaseKeeper, caplog: pytest.LogCaptureFixture, *, is_answered: bool
):
    heard: list[tuple[str, Renewal]] = []
    renewed, found = await held(hand, "well", heard), await held(hand, "hung", heard)
    call = calls.overdue(hand.keys, "hung", nonce="n1", error="it hung", may_retry=True)

    def overdue(_: float) -> Call[Renewal]:
        return call

    hung = replace(found, overdue=overdue)
    if not is_answered:
        await hand.run(call)
    keeper.hold(renewed)
    keeper.hold(hung)
    keeper.start()
    await wait_until(lambda: heard, description="the attempt is told")
    await wait_until(lambda: renewed.lease.is_fresh, description="the other lease is renewed")
    keeper.renew_now()
    assert heard == [("hung", Renewal("overdue" if is_answered else "fenced"))]
    assert not hung.lease.is_fresh
    assert (await hand.fields("hung"))["overdue"] == "it hung"
    assert [line for line in caplog.messages if "hangs past its timeout" in line] == [
        "Task hung hangs past its timeout; it is given to another worker"
    ]


async def test_a_renewal_that_redis_refuses_keeps_no_other_lease_from_being_renewed(hand: Hand, keeper: LeaseKeeper):
    heard: list[tuple[str, Renewal]] = []
    everything = [await held(hand, f"t{number}", heard) for number in range(5)]
    spoilt = hand.keys.log(task_stream("t2"))
    await execute(hand.client, "SET", spoilt, "spoilt", "PX", 60_000)
    for each in everything:
        keeper.hold(each)
    keeper.start()
    others = [each for each in everything if each.task_id != "t2"]
    await wait_until(lambda: all(each.lease.is_fresh for each in others), description="the others are renewed")
    await hand.lose(spoilt)
