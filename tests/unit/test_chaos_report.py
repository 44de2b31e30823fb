"""The report of a chaos run: what it has to tell, in figures."""

from __future__ import annotations

import json

from tests.chaos.checker import Followed, Judgement, Offence, Outcome
from tests.chaos.follower import Follower, Id, Violation
from tests.chaos.plan import TaskPlan
from tests.chaos.report import Report
from tests.chaos.sse import Message
from tests.chaos.truth import Script

SCRIPT = Script("7-1", 2, pause_ms=10, checkpoint_every=0, fail_at=(), ends="complete", ballast=5)


def followed(*moments: float) -> Followed:
    """A reader that saw an event at each of these moments."""
    now = 0.0
    found = Follower("reader 1", SCRIPT, lambda: now)
    for number, now in enumerate(moments):  # noqa: B007 - the clock reads it
        found.saw(Message("number", json.dumps(SCRIPT.payload(number) | {"pid": 5}), f"1000-{number}"))
    return Followed(found, "204", 3, 9.0)


def report(judgement: Judgement) -> str:
    outcome = Outcome(
        TaskPlan(1, 0, "chaos", SCRIPT, None, ()),
        "abc",
        started_at=0.0,
        cancelled_at=None,
        status="completed",
        last_id=Id(1000, 2),
        attempt=2,
        log=[],
        readers=[followed(1.0, 4.5)],
    )
    return str(
        Report(7, "cluster", "make chaos", 60.0, {"cut": 2, "move-slots": 1}, 4, 12, [outcome], judgement, [0.5])
    )


def test_a_report_tells_what_befell_what_was_seen_and_what_was_not_kept():
    said = {line[:18].strip(): line[19:] for line in report(Judgement(announced=3, missing=5)).splitlines() if line}
    assert said["seed"] == "7"
    assert said["topology"] == "cluster"
    assert said["faults"] == "3: cut 2, move-slots 1"
    assert said["failovers"] == "4"
    assert said["readers"] == "1: 204 1"
    assert said["connections"] == "3"
    assert said["longest silence"] == "3.5 s until 4.5 s: task 1 (abc), reader 1"
    assert said["holes announced"] == "3, 5 events; 0 with nothing missing"
    assert said["holes unannounced"] == "0"
    assert said["repeats"] == "0"
    assert said["events repaired"].startswith("12 ")


def test_a_report_of_a_violation_says_who_saw_it_and_how_to_repeat_the_plan():
    judgement = Judgement(
        offences=[Offence(Violation("hole", "Two are missing.", 3.0), "task 1, reader 2", ("a line",))]
    )
    said = report(judgement)
    assert "1 violations. The same plan again: make chaos" in said
    assert "3.00 s  hole     task 1, reader 2: Two are missing." in said
    assert "What task 1, reader 2 saw last:\n    a line" in said
