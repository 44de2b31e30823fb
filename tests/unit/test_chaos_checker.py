"""The judge of a chaos run: what it holds against a run, and what it excuses only with a fault that explains it."""

from __future__ import annotations

import json
from typing import Any

from tests.chaos.checker import Judge, Judgement
from tests.chaos.chronicle import Chronicle
from tests.chaos.follower import ORIGIN, Follower, Id
from tests.chaos.keys import log_key, slot_of
from tests.chaos.outcome import Followed, Outcome
from tests.chaos.plan import TaskPlan
from tests.chaos.sse import Message
from tests.chaos.truth import Script, result

SCRIPT = Script("7-1", 1, pause_ms=10, checkpoint_every=0, fail_at=(), ends="complete", ballast=5)
#: Of the process that wrote the events; its name is `worker1`.
PID = 5
LOG = [(Id(1000, 0), "attempt"), (Id(1000, 1), "number"), (Id(1000, 2), "complete")]


def follower(*, ends: str | None = "1000-2") -> Follower:
    """A reader that was told everything at second 10."""
    found = Follower("reader 1", SCRIPT, lambda: 10.0)
    messages: list[tuple[str, str, dict[str, Any]]] = [
        ("1000-0", "attempt", {"attempt": 1, "resume_from": None}),
        ("1000-1", "number", SCRIPT.payload(0) | {"pid": PID}),
    ]
    for event_id, kind, data in messages:
        found.saw(Message(kind, json.dumps(data), event_id))
    if ends:
        found.saw(Message("complete", json.dumps({"result": result(SCRIPT.key, SCRIPT.events)}), ends))
    return found


def outcome(*followed: tuple[Follower, str], status: str = "completed", last_id: Id = LOG[-1][0]) -> Outcome:
    return Outcome(
        TaskPlan(1, 0, "chaos", SCRIPT, None, ()),
        "abc",
        started_at=5.0,
        cancelled_at=None,
        status=status,
        last_id=last_id,
        attempt=1,
        log=LOG if status else [],
        readers=[Followed(follower, outcome, 1, 11.0) for follower, outcome in followed],
    )


def chronicle(*incidents: tuple[str, str, float, float | None]) -> Chronicle:
    """Incidents that last half a second: kind, target, when, and since when what was lost."""
    found = Chronicle(workers={PID: "worker1"})
    for kind, target, began, lost_since in incidents:
        incident = found.add(kind, target, began)
        incident.healed, incident.lost_since = began + 0.5, lost_since
    return found


def judged(outcome: Outcome, befell: Chronicle | None = None) -> Judgement:
    return Judge(befell or chronicle(), max_events=100, lease_seconds=3).judge([outcome])


def kinds(judgement: Judgement) -> list[str]:
    return [offence.violation.kind for offence in judgement.offences]


def test_a_task_that_everybody_saw_end_is_blamed_for_nothing():
    assert kinds(judged(outcome((follower(), "204"), (follower(), "closed")))) == []


def test_a_reader_that_never_learns_the_end_is_stranded():
    for how in ("", "204", "404", "500"):
        assert kinds(judged(outcome((follower(ends=None), how)))) == ["stranded"], how


def test_a_task_that_never_ends_or_ends_otherwise_is_blamed():
    assert "task" in kinds(judged(outcome((follower(), "204"), status="running")))
    assert "task" in kinds(judged(outcome((follower(), "204"), status="failed")))


def test_an_unknown_task_is_excused_only_by_a_loss_after_its_beginning():
    vanished = outcome((follower(ends=None), "404"), status="", last_id=ORIGIN)
    assert set(kinds(judged(vanished))) == {"task", "stranded"}
    assert "task" in kinds(judged(vanished, chronicle(("flush-redis", "redis", 2.0, 0.0))))
    assert kinds(judged(vanished, chronicle(("flush-redis", "redis", 9.0, 0.0)))) == []


def test_404_for_a_task_that_lives_on_is_excused_only_without_a_cursor_and_right_after_the_loss():
    new = Follower("reader 2", SCRIPT, lambda: 11.0)
    flushed = chronicle(("flush-redis", "redis", 10.0, 0.0))
    assert kinds(judged(outcome((new, "404")), flushed)) == []
    assert kinds(judged(outcome((follower(ends=None), "404")), flushed)) == ["stranded"]
    assert kinds(judged(outcome((new, "404")), chronicle(("flush-redis", "redis", 9.0, 0.0)))) == ["stranded"]
    assert kinds(judged(outcome((new, "404")))) == ["stranded"]


def test_a_reader_that_waits_for_an_unknown_task_is_stranded_whatever_was_lost():
    vanished = outcome((follower(ends=None), ""), status="", last_id=ORIGIN)
    assert kinds(judged(vanished, chronicle(("flush-redis", "redis", 9.0, 0.0)))) == ["stranded"]


def test_two_ends_are_excused_only_if_redis_lost_the_first_and_its_worker_was_struck():
    twice = outcome((follower(), "closed"), (follower(ends="2000-0"), "204"))
    lost = ("lose-redis", "redis", 10.5, 9.5)
    assert kinds(judged(twice)) == ["end"]
    assert "end" in kinds(judged(twice, chronicle(lost)))
    assert "end" in kinds(judged(twice, chronicle(("kill-worker", "worker1", 10.4, None))))
    assert "end" not in kinds(judged(twice, chronicle(lost, ("kill-worker", "worker1", 10.4, None))))
    assert "end" in kinds(
        judged(twice, chronicle(("lose-redis", "redis", 20.0, 19.0), ("kill-worker", "worker1", 20, None)))
    )


def test_readers_that_were_told_different_ends_of_a_lost_task_are_blamed():
    lost = outcome((follower(), "closed"), (follower(ends="2000-0"), "404"), status="", last_id=ORIGIN)
    assert "end" in kinds(judged(lost, chronicle(("flush-redis", "redis", 20.0, 0.0))))


def test_a_gap_is_real_only_where_something_was_lost():
    told = follower(ends=None)
    told.saw(Message("gap", json.dumps({"requested": "1000-1", "resumed_at": None, "missed": None}), ""))
    told.saw(Message("complete", json.dumps({"result": result(SCRIPT.key, SCRIPT.events)}), "1000-2"))
    assert kinds(judged(outcome((told, "204")))) == ["gap"]
    assert kinds(judged(outcome((told, "204")), chronicle(("flush-redis", "redis", 2.0, 0.0)))) == ["gap"]
    found = judged(outcome((told, "204")), chronicle(("flush-redis", "redis", 9.0, 0.0)))
    assert (kinds(found), found.announced, found.needless) == ([], 1, 1)


def test_a_log_with_a_hole_or_with_two_ends_is_blamed():
    holed = outcome((follower(), "204"))
    holed.log = [LOG[0], LOG[2]]
    assert kinds(judged(holed)) == ["log"]
    holed.log = [*LOG, (Id(2000, 0), "complete")]
    assert set(kinds(judged(holed))) == {"end", "log"}


def after_failover(*, lost_since: float, until: float, slots: frozenset[int] | None = None) -> Chronicle:
    """At second 20 a replica was promoted that lacked what came after `lost_since`."""
    found = chronicle()
    found.add_failover("node2", 20.0, lost_since=lost_since, slots=slots).lost_until = until
    return found


def test_two_ends_are_excused_by_a_failover_only_if_the_first_was_lost_and_thought_safe():
    twice = outcome((follower(), "closed"), (follower(ends="2000-0"), "204"))  # the end was told at second 10
    assert "end" not in kinds(judged(twice, after_failover(lost_since=9.0, until=21.0)))
    assert "end" in kinds(judged(twice, after_failover(lost_since=15.0, until=21.0)))  # the replica had that end
    twice.readers[1].follower.endings[0] = twice.readers[1].follower.endings[0]._replace(at=19.5)
    assert "end" in kinds(judged(twice, after_failover(lost_since=9.0, until=21.0)))  # its worker was there still


def test_a_gap_after_a_failover_is_real_only_for_tasks_whose_slot_it_was():
    told = follower(ends=None)
    told.clock = lambda: 22.0
    told.saw(Message("gap", json.dumps({"requested": "1000-1", "resumed_at": None, "missed": None}), ""))
    told.saw(Message("complete", json.dumps({"result": result(SCRIPT.key, SCRIPT.events)}), "1000-2"))
    slot = slot_of(log_key("abc"))
    for slots, blamed in ((None, []), (frozenset({slot}), []), (frozenset({slot + 1}), ["gap"])):
        befell = after_failover(lost_since=19.0, until=21.0, slots=slots)
        assert kinds(judged(outcome((told, "204")), befell)) == blamed


def test_a_task_begun_after_a_failover_may_be_lost_while_the_old_master_does_not_know():
    vanished = outcome((follower(ends=None), "404"), status="", last_id=ORIGIN)
    vanished.started_at = 23.0
    vanished.readers[0].at = 30.0
    assert "task" in kinds(judged(vanished, after_failover(lost_since=19.0, until=21.0)))
    assert kinds(judged(vanished, after_failover(lost_since=19.0, until=25.0))) == []
