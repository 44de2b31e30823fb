"""The scripts behind an attempt that failed, hung or lost its worker: try again, give away, or give up."""

from __future__ import annotations

import json

import pytest

from server.streams.calls import Claimed, Renewal
from tests.support.log_hand import Hand


async def opening(hand: Hand) -> dict[str, object]:
    return json.loads((await hand.task_log())[-1].data)


async def test_a_failed_attempt_hands_its_task_back_until_its_time_and_again_the_same_answer(hand: Hand):
    await hand.running()
    first = await hand.retry(delay_ms=60_000, error='said "no"')
    assert first.outcome == "postponed"
    assert await hand.retry(delay_ms=1) == first
    assert await hand.claim(nonce="n2") == Claimed("early", not_before_ms=first.not_before_ms)
    await hand.amend(not_before="1")
    await hand.claimed(nonce="n2")
    assert await opening(hand) == {"attempt": 2, "reason": "retry", "error": 'said "no"', "resume_from": None}
    assert {"not_before", "handed_back_by", "last_error"}.isdisjoint(await hand.fields())
    assert (await hand.retry()).outcome == "fenced"


async def test_only_the_writer_of_a_running_task_may_put_it_off(hand: Hand):
    assert (await hand.retry()).outcome == "missing"
    await hand.running()
    assert (await hand.retry(nonce="other")).outcome == "fenced"
    await hand.settle()
    assert (await hand.retry()).outcome == "cancelled"
    assert (await hand.fields())["status"] == "running"


async def test_a_lost_worker_ends_a_task_whose_policy_says_so_and_makes_it_a_dead_letter(hand: Hand):
    await hand.create(on_worker_lost="fail")
    await hand.claimed(lease_ms=0)
    assert (await hand.expire()).outcome == "settled"
    fields = await hand.fields()
    assert (json.loads(fields["end"])["code"], fields["dead"]) == ("worker_lost", "1")
    assert json.loads(fields["errors"])["attempt"] == 1
    assert (await hand.expire()).outcome == "ended"


async def test_what_may_be_tried_again_or_still_runs_does_not_expire(hand: Hand):
    assert (await hand.expire()).outcome == "missing"
    record = await hand.running()
    assert (await hand.expire()).outcome == "held"
    await hand.claimed(record.id)
    await hand.create("b")
    await hand.claimed("b", lease_ms=0)
    assert (await hand.expire("b")).outcome == "open"


async def test_errors_of_attempts_are_kept_up_to_64_kib_the_newest(hand: Hand):
    await hand.create(max_attempts="100")
    for number in range(40):
        await hand.amend(not_before="1")
        await hand.claimed(nonce=f"n{number}")
        await hand.retry(nonce=f"n{number}", error=f"{number} " + "x" * 2000)
    errors = (await hand.fields())["errors"]
    assert len(errors) <= 65_536
    kept = [json.loads(line)["attempt"] for line in errors.split("\n")]
    assert kept == list(range(41 - len(kept), 41))
    assert len(kept) > 25


@pytest.mark.parametrize(
    ("attempts", "says"), [("1", "it may be tried only once."), ("2", "its 2 attempts are used up.")]
)
async def test_a_task_given_up_says_how_often_it_was_tried(hand: Hand, attempts: str, says: str):
    await hand.create(max_attempts=attempts)
    for number in range(int(attempts)):
        await hand.claimed(nonce=f"n{number}", lease_ms=0)
    assert (await hand.expire()).outcome == "settled"
    end = json.loads((await hand.fields())["end"])
    assert end == {"error": f"The worker that ran this task was lost, and {says}", "code": "attempts_exhausted"}


async def test_a_task_given_away_may_be_claimed_at_once_and_says_why(hand: Hand):
    await hand.running()
    assert await hand.overdue() == Renewal("overdue")
    assert await hand.renew() == Renewal("fenced")
    assert (await hand.claimed(nonce="n2")).attempt == 2
    assert await opening(hand) == {"attempt": 2, "reason": "retry", "error": "it hung", "resume_from": None}
    fields = await hand.fields()
    assert [json.loads(line)["code"] for line in fields["errors"].split("\n")] == ["timeout"]
    assert {"overdue", "overdue_ends"}.isdisjoint(fields)


@pytest.mark.parametrize(
    ("attempts", "on_worker_lost", "may_retry"), [("1", "retry", True), ("3", "retry", False), ("3", "fail", True)]
)
async def test_a_task_given_away_for_good_ends_by_its_timeout(
    hand: Hand, attempts: str, on_worker_lost: str, may_retry: bool
):
    await hand.create(max_attempts=attempts, on_worker_lost=on_worker_lost)
    await hand.claimed()
    await hand.overdue(may_retry=may_retry)
    assert (await hand.expire()).outcome == "settled"
    fields = await hand.fields()
    assert (json.loads(fields["end"]), fields["dead"]) == ({"error": "it hung", "code": "timeout"}, "1")
    assert json.loads(fields["errors"])["error"] == "it hung"


async def test_what_was_noted_of_a_hung_attempt_says_nothing_of_the_one_after_it(hand: Hand):
    await hand.running()
    await hand.overdue()
    hung = await hand.fields()
    await hand.claimed(nonce="n2", lease_ms=0)
    # As after a failover that lost the claim but not the repair of the writer that had made it.
    await hand.amend(overdue=hung["overdue"], overdue_ends=hung["overdue_ends"])
    await hand.claimed(nonce="n3")
    assert (await opening(hand))["reason"] == "worker_lost"


async def test_only_the_writer_of_a_running_task_may_give_it_away(hand: Hand):
    assert await hand.overdue() == Renewal("absent")
    await hand.running()
    before = await hand.fields()
    assert await hand.overdue(nonce="other") == Renewal("fenced")
    assert await hand.fields() == before
    assert (await hand.settle()).outcome == "flagged"
    assert await hand.overdue() == Renewal("overdue")
    assert (await hand.expire()).outcome == "settled"  # it was cancelled, too
    assert (await hand.fields())["status"] == "cancelled"
    assert await hand.overdue() == Renewal("ended")
