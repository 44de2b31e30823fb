"""Scripts over a task's record on a real server: every answer each of them can give."""

from __future__ import annotations

import json

import pytest

from server.streams.calls import Claimed, Created, Renewal, Reply
from server.streams.connections import execute
from server.streams.ids import ORIGIN, EventId
from server.streams.records import Status
from tests.support.log_hand import LEASE_MS, Hand, drafts


async def opening(hand: Hand) -> dict[str, object]:
    return json.loads((await hand.task_log())[-1].data)


# create


async def test_creating_the_same_task_again_gives_the_first_record_and_another_request_conflicts(hand: Hand):
    first = await hand.create(body="one")
    again = await hand.create(body="one", title="ignored")
    assert (first.outcome, again.outcome) == ("created", "exists")
    assert first.record
    assert again.record
    assert again.record.values == first.record.values
    assert await hand.create(body="two") == Created("conflict")


async def test_a_new_record_is_pending_and_expires(hand: Hand):
    created = await hand.create()
    assert created.record
    assert (created.record.status, created.record.attempt, created.record.generation) == (Status.PENDING, 0, 0)
    assert await execute(hand.client, "PTTL", hand.keys.record("a")) > 0
    assert await hand.task_log() == ()


# claim


async def test_a_claim_opens_a_generation_with_an_attempt_event_and_takes_the_lease(hand: Hand):
    await hand.create()
    claimed = await hand.claim()
    assert (claimed.outcome, claimed.record and claimed.record.status) == ("claimed", Status.RUNNING)
    [event] = await hand.task_log()
    assert (event.id.sequence, event.type, event.previous) == (0, "attempt", ORIGIN)
    assert json.loads(event.data) == {"attempt": 1, "reason": "started", "error": None, "resume_from": None}
    fields = await hand.fields()
    assert json.loads(fields["chain"]) == [[str(event.id.generation), None]]
    assert (fields["owner"], fields["last_id"], fields["spent"]) == ("n1", str(event.id), "1")
    snapshot = await hand.read("tasks.a")
    assert snapshot.record
    assert snapshot.record.is_leased(snapshot.now_ms)


async def test_the_same_claim_again_gets_the_same_answer_and_changes_nothing(hand: Hand):
    await hand.create()
    first, again = await hand.claim(), await hand.claim(entropy=500)
    assert first == again
    assert len(await hand.task_log()) == 1


async def test_a_claim_of_an_unknown_task_is_missing(hand: Hand):
    assert await hand.claim() == Claimed("missing")
    assert await hand.fields() == {}


async def test_a_claim_of_an_ended_task_is_ended(hand: Hand):
    await hand.ended()
    assert await hand.claim(nonce="n2") == Claimed("ended")


async def test_a_claim_under_anothers_lease_is_held_and_says_for_how_long(hand: Hand):
    await hand.running()
    found = await hand.claim(nonce="n2")
    assert found.outcome == "held"
    assert 0 < found.wait_ms <= LEASE_MS


async def test_an_expired_lease_is_held_for_who_was_not_connected_for_a_lease(hand: Hand):
    await hand.running(lease_ms=0)
    assert await hand.claim(nonce="n2", may_take_expired=False) == Claimed("held", wait_ms=LEASE_MS)
    assert (await hand.claim(nonce="n2")).outcome == "claimed"


async def test_a_claim_after_a_lost_worker_opens_a_higher_generation_and_tells_the_reason(hand: Hand):
    old = await hand.running(lease_ms=0)
    await hand.append(old, 1, drafts("1"))
    new = await hand.claimed(nonce="n2")
    assert new.generation > old.generation
    event = (await hand.task_log())[-1]
    assert (event.id, event.previous) == (EventId(new.generation, 0), EventId(old.generation, 1))
    assert await opening(hand) == {"attempt": 2, "reason": "worker_lost", "error": None, "resume_from": None}
    assert (await hand.fields())["chain"] == f'[["{new.generation}",null]]'


async def test_a_claim_after_a_checkpoint_goes_on_from_it_and_keeps_the_chain(hand: Hand):
    old = await hand.running(lease_ms=0)
    resume = f"{old.generation}-1"
    await hand.append(old, 1, drafts("1", "2"), values={"resume_from": resume, "checkpoint": "{}"})
    new = await hand.claimed(nonce="n2")
    assert await opening(hand) == {
        "attempt": 2, "reason": "worker_lost", "error": None, "resume_from": resume,
    }  # fmt: skip
    fields = await hand.fields()
    assert json.loads(fields["chain"]) == [[str(old.generation), None], [str(new.generation), resume]]
    assert fields["checkpoint"] == "{}"


async def test_a_claim_drops_a_checkpoint_of_a_generation_that_no_longer_stands(hand: Hand):
    await hand.running(lease_ms=0)
    await hand.amend(resume_from="5-1", checkpoint="{}")
    await hand.claimed(nonce="n2")
    assert (await opening(hand))["resume_from"] is None
    assert {"resume_from", "checkpoint"}.isdisjoint(await hand.fields())


async def test_a_claim_of_a_cancelled_task_settles_it(hand: Hand):
    await hand.running(lease_ms=0)
    assert (await hand.settle(may_judge_expired=False)).outcome == "flagged"
    assert (await hand.claim(nonce="n2")).outcome == "settled"
    assert (await hand.fields())["status"] == "cancelled"
    assert (await hand.task_log())[-1].type == "cancelled"


async def test_a_claim_beyond_the_attempts_settles_the_task_as_failed(hand: Hand):
    await hand.create(max_attempts="1")
    await hand.claimed(lease_ms=0)
    assert (await hand.claim(nonce="n2")).outcome == "settled"
    fields = await hand.fields()
    assert (fields["status"], json.loads(fields["end"])["code"]) == ("failed", "attempts_exhausted")


async def test_a_claim_behind_an_id_too_large_to_count_on_from_is_exhausted(hand: Hand):
    await hand.create()
    await execute(hand.client, "XADD", hand.keys.log("tasks.a"), "9999999999999999-0", "e", "x")
    await execute(hand.client, "PEXPIRE", hand.keys.log("tasks.a"), 60_000)
    assert (await hand.claim()).outcome == "exhausted"
    assert (await hand.settle()).outcome == "exhausted"
    assert (await hand.fields())["status"] == "pending"


async def test_a_generation_lies_above_log_record_and_clock_by_the_random_number(hand: Hand):
    await hand.create()
    ahead = 9_000_000_000_000
    await hand.amend(generation=str(ahead))
    assert (await hand.claimed(nonce="n1")).generation == ahead + 1 + 7


# renew


async def test_a_renewal_prolongs_the_lease_and_the_lives_of_log_and_record(hand: Hand):
    record = await hand.running(lease_ms=1_000)
    before = int((await hand.fields())["lease_until"])
    for key in (hand.keys.log("tasks.a"), hand.keys.record("a")):
        await execute(hand.client, "PEXPIRE", key, 5_000)
    assert await hand.renew(stored=EventId(record.generation, 0)) == Renewal("renewed")
    assert int((await hand.fields())["lease_until"]) > before
    for key in (hand.keys.log("tasks.a"), hand.keys.record("a")):
        assert await execute(hand.client, "PTTL", key) > 86_400_000


async def test_a_renewal_tells_of_a_cancel_and_of_a_log_that_went_back(hand: Hand):
    record = await hand.running()
    stored = EventId(record.generation, 0)
    await hand.settle()
    assert await hand.renew(stored=stored) == Renewal("renewed", is_cancel_requested=True)
    assert await hand.renew(stored=stored.next()) == Renewal("renewed", is_cancel_requested=True, is_intact=False)
    await hand.lose_log()
    assert not (await hand.renew(stored=stored)).is_intact


async def test_a_renewal_without_a_record_is_absent_and_creates_none(hand: Hand):
    assert await hand.renew() == Renewal("absent")
    assert await hand.fields() == {}


async def test_a_renewal_after_the_end_is_ended(hand: Hand):
    await hand.ended()
    assert await hand.renew() == Renewal("ended")


async def test_a_renewal_of_a_worker_that_woke_up_late_is_fenced(hand: Hand):
    await hand.running(lease_ms=0)
    await hand.claimed(nonce="n2")
    assert await hand.renew(nonce="n1") == Renewal("fenced")
    assert await hand.renew(nonce="n2") == Renewal("renewed")


# start


async def test_a_pending_task_starts_once(hand: Hand):
    await hand.create(queued="0")
    assert [await hand.start(), await hand.start()] == [Reply("started"), Reply("joined")]
    assert (await hand.fields())["queued"] == "1"


async def test_an_unknown_or_deleted_task_does_not_start(hand: Hand):
    assert await hand.start() == Reply("missing")
    await hand.ended()
    await hand.delete()
    assert await hand.start(rerun_of=1) == Reply("missing")


async def test_a_rerun_starts_only_of_the_newest_attempt_of_an_ended_task(hand: Hand):
    await hand.running()
    assert await hand.start(rerun_of=1) == Reply("joined")
    await hand.finish(await hand.claimed(), 1)
    assert await hand.start() == Reply("joined")
    assert await hand.start(rerun_of=2) == Reply("joined")
    assert await hand.start(rerun_of=1) == Reply("started")
    assert await hand.start(rerun_of=1) == Reply("joined")


async def test_a_rerun_leaves_nothing_of_the_old_run_standing(hand: Hand):
    await hand.ended()
    await hand.start(rerun_of=1)
    fields = await hand.fields()
    assert (fields["status"], fields["chain"], fields["spent"], fields["attempt"]) == ("pending", "[]", "0", "1")
    assert {"end", "ended_at", "cancel", "progress", "checkpoint", "resume_from", "last_error"}.isdisjoint(fields)
    new = await hand.claimed(nonce="n2")
    assert (await opening(hand)) == {"attempt": 2, "reason": "rerun", "error": None, "resume_from": None}
    assert (await hand.fields())["chain"] == f'[["{new.generation}",null]]'


# settle


async def test_cancelling_a_pending_task_ends_it_at_once(hand: Hand):
    await hand.create()
    reply = await hand.settle()
    assert reply.outcome == "settled"
    [event] = await hand.task_log()
    assert (event.id, event.type, event.is_terminal, event.previous) == (reply.id, "cancelled", True, ORIGIN)
    record = (await hand.read("tasks.a")).record
    assert record
    assert (record.status, record.last_id, record.end) == (Status.CANCELLED, reply.id, "{}")


async def test_cancelling_a_running_task_asks_its_worker(hand: Hand):
    record = await hand.running()
    assert await hand.settle() == Reply("flagged")
    assert (await hand.fields())["cancel"] == str(record.generation)
    assert (await hand.append(record, 1, drafts("1"))).outcome == "stored"


async def test_a_running_task_is_not_judged_by_who_was_not_connected_for_a_lease(hand: Hand):
    await hand.running(lease_ms=0)
    assert await hand.settle(mode="reap", may_judge_expired=False) == Reply("held")
    assert await hand.settle(mode="cancel", may_judge_expired=False) == Reply("flagged")
    assert (await hand.settle(mode="reap")).outcome == "settled"


async def test_a_living_task_is_not_reaped(hand: Hand):
    await hand.running()
    assert await hand.settle(mode="reap") == Reply("held")


async def test_a_reaped_task_keeps_what_stood(hand: Hand):
    old = await hand.running(lease_ms=0)
    await hand.append(old, 1, drafts("1"))
    reply = await hand.settle(mode="reap")
    fields = await hand.fields()
    assert json.loads(fields["chain"]) == [
        [str(old.generation), None],
        [str(reply.id.generation), f"{old.generation}-1"],
    ]
    assert (fields["status"], fields["owner"]) == ("failed", "")
    assert (await hand.append(old, 2, drafts("2"))).outcome == "fenced"


async def test_an_ended_an_unknown_and_a_deleted_task_are_not_settled(hand: Hand):
    assert await hand.settle() == Reply("missing")
    await hand.ended()
    assert await hand.settle() == Reply("ended")
    await hand.delete()
    assert await hand.settle() == Reply("missing")


# delete and amend


async def test_deleting_an_ended_task_leaves_a_marker_that_expires(hand: Hand):
    record = await hand.ended()
    assert await hand.delete() == Reply("deleted")
    assert await hand.fields() == {
        "status": "deleted",
        "last_id": f"{record.generation}-1",
        "generation": str(record.generation),
        "body": "body",
    }
    assert 0 < await execute(hand.client, "PTTL", hand.keys.record("a")) <= 86_400_000
    assert (await hand.read("tasks.a")).last_id is None
    assert await hand.delete() == Reply("missing")


async def test_an_unfinished_or_unknown_task_is_not_deleted(hand: Hand):
    assert await hand.delete() == Reply("missing")
    await hand.create()
    assert await hand.delete() == Reply("running")
    await hand.claimed()
    assert await hand.delete() == Reply("running")


async def test_amending_changes_a_record_and_brings_none_into_being(hand: Hand):
    assert await hand.amend(queue_entry="1-0") == Reply("missing")
    assert await hand.fields() == {}
    await hand.create()
    assert await hand.amend(queue_entry="1-0") == Reply("amended")
    assert (await hand.fields())["queue_entry"] == "1-0"


# read


async def test_a_look_tells_page_end_and_record_at_once(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2", "3"))
    found = await hand.read("tasks.a", first=EventId(record.generation, 1), limit=2)
    assert [event.data for event in found.events] == ["1", "2"]
    assert (found.last_id, found.is_closed) == (EventId(record.generation, 3), False)
    assert found.record
    assert found.record.status is Status.RUNNING
    assert found.now_ms > 0


async def test_a_look_ends_where_it_is_told_and_at_nothing_reads_nothing(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2", "3"))
    first, last = EventId(record.generation, 1), EventId(record.generation, 2)
    assert [event.data for event in (await hand.read("tasks.a", first=first, last=last)).events] == ["1", "2"]
    assert (await hand.read("tasks.a", first=first, limit=0)).events == ()


async def test_a_look_at_large_events_is_short_but_never_so_short_that_it_stands_still(hand: Hand):
    record = await hand.running()
    sizes = [1_200_000, 300_000, 300_000, 300_000, 300_000, 300_000]
    await hand.append(record, 1, drafts(*["x" * size for size in sizes]))
    found = await hand.read("tasks.a", first=EventId(record.generation, 1))
    assert [event.id.sequence for event in found.events] == [1, 2]
    found = await hand.read("tasks.a", first=EventId(record.generation, 2))
    assert [event.id.sequence for event in found.events] == [2, 3, 4, 5]
    assert found.last_id == EventId(record.generation, 6)


@pytest.mark.parametrize("stream", ["chat", "tasks.nobody"])
async def test_a_look_at_nothing_finds_neither_log_nor_record_and_creates_none(hand: Hand, stream: str):
    found = await hand.read(stream)
    assert (found.events, found.last_id, found.is_closed, found.record) == ((), None, False, None)
    assert await execute(hand.client, "DBSIZE") == 0


async def test_a_look_at_a_trimmed_log_still_knows_its_last_id(hand: Hand):
    record = await hand.running()
    await hand.append(record, 1, drafts("1"))
    await execute(hand.client, "XTRIM", hand.keys.log("tasks.a"), "MAXLEN", 0)
    found = await hand.read("tasks.a")
    assert (found.events, found.last_id) == ((), EventId(record.generation, 1))
