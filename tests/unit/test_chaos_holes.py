"""Which holes the judge of a chaos run believes: those that a loss or trimming can have torn behind the cursor."""

from __future__ import annotations

from functools import partial

import pytest

from tests.chaos.chronicle import Chronicle, Incident
from tests.chaos.follower import ORIGIN, Follower, Gap, Id
from tests.chaos.holes import Holes, Pace
from tests.chaos.outcome import Followed, Outcome
from tests.chaos.plan import TaskPlan
from tests.chaos.truth import Script

#: Ten events a second, for a hundred seconds.
SCRIPT = Script("7-1", 1000, pause_ms=100, checkpoint_every=0, fail_at=(), ends="complete", ballast=5)
#: No log is trimmed, unless a test says otherwise.
UNBOUNDED = 10**6


def event(second: float) -> Id:
    """What the attempt that began at second 2 wrote then."""
    return Id(2000, int((second - 2) * 10))


def told(at: float, requested: Id, resumed_at: Id | None = None, *, cursor_at: float | None = None) -> Gap:
    """A gap; its reader came to the cursor right before."""
    return Gap(at, requested, resumed_at, at - 0.1 if cursor_at is None else cursor_at)


def flushed(*seconds: float) -> Chronicle:
    return Chronicle([Incident("flush-redis", "redis", at, at, lost_since=0.0, lost_until=at) for at in seconds])


def log(first: Id, count: int) -> list[tuple[Id, str]]:
    return [(Id(first.generation, first.sequence + n), "number") for n in range(count)]


def blamed(
    *gaps: Gap,
    befell: Chronicle | None = None,
    log: list[tuple[Id, str]] | None = None,
    script: Script = SCRIPT,
    attempt: int = 1,
    attempts_told: int = 1,
    max_events: int = UNBOUNDED,
) -> int:
    """How many of the gaps that one reader was told are held against the product."""
    follower = Follower("reader 1", script, lambda: 0.0, attempts=attempts_told)
    outcome = Outcome(
        TaskPlan(1, 0, "chaos", script, None, ()),
        "abc",
        started_at=1.0,
        cancelled_at=None,
        status="completed",
        last_id=log[-1][0] if log else event(99),
        attempt=attempt,
        log=log or [],
        readers=[Followed(follower, "204", 1, 99.0)],
    )
    holes = Holes(befell or Chronicle(), outcome, max_events=max_events, came_back_within=7.0)
    return len(list(holes.unreal(gaps)))


def test_the_earliest_moment_of_an_event_follows_from_its_id():
    pace = Pace(SCRIPT, started_at=1.0, epoch=1000.0)
    assert pace.earliest(ORIGIN) == 1.0
    assert pace.earliest(Id(1_012_000, 0)) == pytest.approx(10.0)
    assert pace.earliest(Id(1_012_000, 102)) == pytest.approx(20.0)
    assert pace.earliest(Id(1_011_999, 2**64 - 1)) == pytest.approx(9.999)  # the place before the next generation
    with_checkpoints = Pace(Script("7-1", 1000, 100, 10, (), "complete", 5), started_at=1.0, epoch=1000.0)
    assert with_checkpoints.earliest(Id(1_012_000, 112)) == pytest.approx(
        20.0
    )  # ten checkpoints, and no pause behind them


# Losses.


def test_a_gap_is_blamed_if_nothing_was_ever_lost():
    assert blamed(told(50, event(49))) == 1
    assert blamed(told(50, ORIGIN, event(49)), log=log(event(49), 20)) == 1


def test_a_gap_long_after_a_loss_that_is_healed_is_blamed():
    for resumed_at in (None, event(51)):
        assert blamed(told(50, event(49), resumed_at), befell=flushed(10)) == 1, resumed_at
        assert blamed(told(50, event(49), resumed_at), befell=flushed(10, 47)) == 0, resumed_at


def test_a_gap_before_a_loss_is_blamed():
    assert blamed(told(20, event(19)), befell=flushed(25)) == 1


def test_a_gap_is_real_where_the_loss_may_have_taken_what_lies_behind_the_cursor():
    assert blamed(told(13, event(10)), befell=flushed(10)) == 0
    assert blamed(told(50, event(49)), befell=Chronicle([deleted("abc", 48)])) == 0
    assert blamed(told(50, event(49)), befell=Chronicle([Incident("lose-redis", "redis", 49, 50, lost_since=48)])) == 0


def test_a_gap_is_blamed_if_the_log_of_another_task_was_deleted():
    assert blamed(told(50, event(49)), befell=Chronicle([deleted("def", 48)])) == 1


def deleted(task_id: str, at: float) -> Incident:
    return Incident("delete-log", "log", at, at, lost_since=0.0, lost_until=at, task_id=task_id)


def test_a_loss_is_told_late_to_a_reader_that_was_away_or_came_late():
    for requested in (ORIGIN, event(8)):
        assert blamed(told(60, requested, event(30), cursor_at=8), befell=flushed(10)) == 0, requested


def test_a_loss_is_told_late_to_a_reader_that_reads_old_events_late():
    assert blamed(told(60, event(8), event(30), cursor_at=59), befell=flushed(10)) == 0


def test_what_a_reader_saw_before_the_loss_was_written_before_whatever_its_generation_says():
    ahead = Id(20_000, 5)
    assert blamed(told(15, ahead, cursor_at=9), befell=flushed(10)) == 0
    assert blamed(told(15, ahead, cursor_at=14), befell=flushed(10)) == 1


def test_a_command_that_empties_redis_late_takes_all_until_then():
    late = Chronicle([Incident("flush-redis", "redis", 10, 14, lost_since=0.0, lost_until=14)])
    assert blamed(told(16, event(14)), befell=late) == 0


def test_a_loss_explains_one_hole_and_none_further_on():
    first, second = told(20, event(8), event(9), cursor_at=8), told(21, event(9.5), event(15))
    assert blamed(first, second, befell=flushed(10)) == 1
    assert blamed(first, second, befell=flushed(10, 11)) == 0


def test_a_hole_is_told_again_to_a_reader_that_went_back_or_was_not_led_over_it():
    again = told(20, event(8), event(9), cursor_at=8)
    assert blamed(again, again, befell=flushed(10)) == 0
    assert blamed(told(13, event(8), cursor_at=8), again, befell=flushed(10)) == 0
    assert blamed(again, told(21, ORIGIN, event(9)), befell=flushed(10)) == 0


def test_a_failover_explains_gaps_until_the_old_master_has_found_out():
    befell = Chronicle()
    failover = befell.add_failover("node2", 20.0, lost_since=19.0, slots=None)
    assert blamed(told(50, event(49)), befell=befell) == 0
    failover.lost_until = 25.0
    assert blamed(told(24, event(20), event(21)), told(26, event(24), event(25)), befell=befell) == 0
    assert blamed(told(50, event(49)), befell=befell) == 1


# Trimming.

#: With logs that are trimmed to their newest hundred.
blamed_of_short_log = partial(blamed, max_events=100)


def test_a_gap_is_real_where_the_log_was_trimmed_behind_the_cursor():
    assert blamed_of_short_log(told(60, ORIGIN, event(45)), log=log(event(88), 120)) == 0
    assert blamed_of_short_log(told(60, event(10), event(45)), log=log(event(45), 150)) == 0


def test_a_gap_in_a_log_that_was_not_trimmed_is_blamed():
    assert blamed_of_short_log(told(60, event(10), event(45)), log=log(event(2), 980)) == 1
    assert blamed_of_short_log(told(60, event(10), event(45)), log=log(event(44), 160)) == 1
    assert blamed_of_short_log(told(60, event(10), event(45)), log=log(event(88), 60)) == 1
    assert blamed_of_short_log(told(60, event(10)), log=log(event(88), 120)) == 1


def test_what_was_trimmed_may_be_there_again_in_an_older_state_of_the_log():
    late, there = told(60, event(10), event(45)), log(event(9), 900)
    set_back = Incident("lose-redis", "redis", 64, 65, lost_since=59)
    assert blamed_of_short_log(late, log=there) == 1
    assert blamed_of_short_log(late, log=there, befell=Chronicle([set_back])) == 0


def test_a_gap_is_blamed_if_what_is_missing_was_too_new_to_be_trimmed_by_then():
    assert blamed_of_short_log(told(60, event(58), event(59)), log=log(event(88), 120)) == 1


def test_a_gap_of_a_task_that_writes_less_than_a_log_keeps_is_blamed():
    short = Script("7-1", 60, 100, 0, (), "complete", 5)
    assert blamed_of_short_log(told(60, ORIGIN, event(5)), script=short, log=log(event(5), 30)) == 1
    # Where something was lost the log may be shorter than what it was trimmed to, but not by what was never written.
    judged = partial(blamed_of_short_log, told(60, ORIGIN, event(5)), script=short, log=log(event(5), 30))
    assert judged(befell=Chronicle([deleted("abc", 70)])) == 1
    assert judged(befell=Chronicle([deleted("abc", 70)]), attempt=3) == 0
    assert judged(befell=Chronicle([deleted("abc", 70)]), attempts_told=3) == 0
    assert judged(befell=flushed(70)) == 0  # which may have taken the claim of an attempt


def test_void_events_before_a_new_attempt_may_be_left_of_what_was_trimmed():
    opening = Id(40_000, 0)
    left = [*log(event(30), 50), *log(opening, 200)]
    assert blamed_of_short_log(told(42, event(20), opening), log=left, attempt=2) == 0
    assert blamed_of_short_log(told(42, event(32), opening), log=left, attempt=2) == 1


def test_trimming_is_no_telling_of_a_loss_further_on():
    trimmed, lost = told(60, ORIGIN, event(20)), told(61, event(28), event(58))
    assert blamed_of_short_log(trimmed, lost, log=log(event(90), 120), befell=flushed(30)) == 0


# What was said to be missing, and is there.


def test_a_gap_is_blamed_if_the_log_has_at_last_what_it_was_said_to_lack():
    late = told(60, event(8), event(20), cursor_at=8)
    assert blamed(late, log=log(event(2), 500), befell=flushed(10)) == 1
    assert blamed(late, log=log(event(20), 500), befell=flushed(10)) == 0


def test_what_was_missing_may_come_back_with_an_older_state_of_the_log_or_before_an_end_told_from_the_record():
    late, there = told(60, event(8), event(20), cursor_at=8), log(event(2), 500)
    set_back = Incident("lose-redis", "redis", 61, 62, lost_since=59)
    assert blamed(late, log=there, befell=Chronicle([deleted("abc", 10), set_back])) == 0
    assert blamed(told(13, event(8), there[-1][0], cursor_at=8), log=there, befell=flushed(10)) == 0
    assert blamed(told(60, event(8), there[-1][0], cursor_at=8), log=there, befell=flushed(10)) == 0
