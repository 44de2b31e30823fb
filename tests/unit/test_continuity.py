"""What a reader may conclude: each rule and each line of the table in `server.fanout.continuity`, one test each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.fanout.continuity import Gap, State, Verdict, follows, judge_log, judge_standing
from server.fanout.standing import Standing
from server.streams.calls import Snapshot
from server.streams.event import Event, deleted_end
from server.streams.ids import ORIGIN, EventId, parse_event_id
from server.streams.records import Status, StreamRecord, decode_chain

_NOW = 1_000_000


def at(text: str) -> EventId:
    return parse_event_id(text)


def event(text: str, *, previous: str | None = None, lost: str | None = None, ends: bool = False) -> Event:
    return Event(
        at(text),
        "complete" if ends else "t",
        "{}",
        1,
        at(previous) if previous else None,
        at(lost) if lost else None,
        ends,
    )


def events(generation: int, *sequences: int) -> tuple[Event, ...]:
    return tuple(event(f"{generation}-{sequence}") for sequence in sequences)


def record(
    status: Status = Status.RUNNING, *, chain: str = '[["5",null]]', last: str = "0-0", leased: bool = False
) -> StreamRecord:
    end = None if status in {Status.PENDING, Status.RUNNING, Status.DELETED} else '{"result":1}'
    return StreamRecord(status, decode_chain(chain), at(last), _NOW + 1 if leased else 0, end, '{"attempt":1}', 1)


def look(*found: Event, last: str | None = None, closed: bool = False, of: StreamRecord | None = None) -> Snapshot:
    if last is None and found:
        last = str(found[-1].id)
    return Snapshot(found, at(last) if last else None, closed, of, _NOW)


def standing_verdict(cursor: str, snapshot: Snapshot) -> Verdict:
    assert snapshot.record is not None
    return judge_standing(at(cursor), Standing(snapshot.record.chain), snapshot)


def ids(verdict: Verdict) -> list[str]:
    return [str(each.id) for each in verdict.events]


# Rule 1: within a generation the next number proves that nothing was missed.


def test_the_next_sequences_are_delivered():
    assert judge_log(at("5-2"), look(*events(5, 2, 3, 4))) == Verdict(State.MORE, events(5, 3, 4))


def test_a_hole_after_the_cursor_is_a_gap_of_known_size():
    verdict = judge_log(at("5-2"), look(*events(5, 2, 6, 7)))
    assert (verdict.gap, ids(verdict)) == (Gap(at("5-2"), at("5-6"), 3), ["5-6", "5-7"])


def test_a_trimmed_cursor_is_a_gap_unless_the_next_event_is_still_there():
    assert judge_log(at("5-2"), look(*events(5, 3, 4))).gap is None
    assert judge_log(at("5-2"), look(*events(5, 9))).gap == Gap(at("5-2"), at("5-9"), 6)


def test_events_up_to_a_hole_are_delivered_and_the_hole_is_judged_by_the_next_look():
    assert ids(judge_log(at("5-2"), look(*events(5, 2, 3, 7)))) == ["5-3"]


def test_a_start_at_the_beginning_of_a_trimmed_log_is_a_gap_without_a_cursor():
    assert judge_log(ORIGIN, look(*events(5, 4, 5))).gap == Gap(None, at("5-4"), None)


def test_a_start_at_the_beginning_of_a_whole_log_is_none():
    assert judge_log(ORIGIN, look(event("5-0", previous="0-0"), *events(5, 1))).gap is None
    assert judge_log(ORIGIN, look(*events(5, 0, 1))).gap is None


# Rule 2: across generations of a shared stream, `previous` decides.


def test_a_new_generation_behind_the_cursor_is_followed():
    assert follows(at("5-2"), event("6-0", previous="5-2"))
    assert judge_log(at("5-2"), look(*events(5, 2), event("6-0", previous="5-2"))).gap is None


def test_a_reader_that_has_seen_more_than_the_new_generation_knows_goes_on():
    assert judge_log(at("5-4"), look(event("6-0", previous="5-2"))).gap is None


def test_a_reader_behind_the_predecessor_of_a_new_generation_is_told_of_the_gap():
    assert judge_log(at("5-1"), look(event("6-0", previous="5-2"))).gap == Gap(at("5-1"), at("6-0"), None)


def test_a_predecessor_in_another_generation_is_a_gap():
    assert judge_log(at("4-9"), look(event("6-0", previous="5-2"))).gap is not None


@pytest.mark.parametrize("cursor", ["5-2", "5-3", "5-4"])
def test_a_publisher_that_knows_of_lost_events_makes_a_gap_for_everybody(cursor: str):
    assert judge_log(at(cursor), look(event("6-0", previous="5-2", lost="5-4"))).gap is not None


def test_a_new_generation_in_the_middle_of_a_page_is_judged_by_its_neighbour():
    found = [*events(5, 2, 3), event("6-0", previous="5-3"), *events(6, 1)]
    assert ids(judge_log(at("5-2"), look(*found))) == ["5-3", "6-0", "6-1"]
    found = [*events(5, 2, 3), event("6-0", previous="5-7"), *events(6, 1)]
    assert ids(judge_log(at("5-2"), look(*found))) == ["5-3"]


def test_a_foreign_generation_without_a_predecessor_is_followed_next_to_the_cursor_only():
    assert judge_log(at("5-2"), look(*events(5, 2), *events(6, 0, 1))).gap is None
    assert judge_log(at("5-2"), look(*events(6, 0, 1))).gap == Gap(at("5-2"), at("6-0"), None)


@given(
    st.builds(EventId, st.integers(0, 9), st.integers(0, 9)), st.builds(EventId, st.integers(0, 9), st.integers(0, 9))
)
def test_an_event_that_names_no_predecessor_follows_the_id_right_before_it_only(cursor: EventId, own: EventId):
    assert follows(cursor, Event(own, "t", "")) == (cursor == own.before())


# Rule 3: of a task the standing events after the cursor, and nothing else.


def test_a_jump_over_what_became_void_is_no_gap():
    snapshot = look(*events(8, 0, 1), of=record(chain='[["5",null],["8","5-2"]]', leased=True))
    for cursor in ("5-2", "5-3", "5-40"):
        assert standing_verdict(cursor, snapshot) == Verdict(State.MORE, events(8, 0, 1))


def test_an_attempt_that_starts_anew_is_the_announcement_for_every_older_cursor():
    snapshot = look(event("8-0", previous="5-9"), of=record(chain='[["8",null]]', leased=True))
    assert standing_verdict("5-3", snapshot).gap is None
    assert standing_verdict("0-0", snapshot).gap is None


def test_a_trimmed_attempt_is_told_from_the_record_with_the_gap():
    snapshot = look(*events(8, 40, 41), of=record(chain='[["8",null]]', leased=True))
    for cursor, requested in (("0-0", None), ("5-3", at("5-3"))):
        verdict = standing_verdict(cursor, snapshot)
        assert (verdict.attempt, verdict.gap) == ('{"attempt":1}', Gap(requested, at("8-40"), 40))
    known = standing_verdict("8-9", snapshot)
    assert (known.attempt, known.gap) == (None, Gap(at("8-9"), at("8-40"), 30))


def test_a_standing_stretch_that_was_trimmed_is_a_gap_on_the_way_to_the_next():
    snapshot = look(*events(8, 0, 1), of=record(chain='[["5",null],["8","5-9"]]', leased=True))
    assert standing_verdict("5-3", snapshot).gap == Gap(at("5-3"), at("8-0"), None)


# Rule 5: a cursor ahead of the log.


def test_table_same_generation_lower_of_an_unfinished_task_waits():
    for leased in (True, False):
        snapshot = look(last="5-3", of=record(leased=leased))
        assert standing_verdict("5-7", snapshot) == Verdict(State.WAIT)
        assert judge_log(at("5-7"), snapshot) == Verdict(State.WAIT)


def test_table_same_generation_lower_of_an_ended_task_ends_with_the_terminal_event_from_the_record():
    snapshot = look(last="5-3", of=record(Status.COMPLETED, last="5-9"))
    verdict = standing_verdict("5-7", snapshot)
    assert (verdict.state, ids(verdict), verdict.gap) == (State.ENDED, ["5-9"], Gap(at("5-7"), at("5-9"), 1))
    assert verdict.events[0].type == "complete"
    assert standing_verdict("5-8", snapshot).gap is None


def test_table_same_generation_lower_of_a_shared_stream_waits():
    assert judge_log(at("5-7"), look(last="5-3")) == Verdict(State.WAIT)


@pytest.mark.parametrize("last", ["4-3", None])
def test_table_lower_generation_or_no_log_waits_while_a_lease_lives(last: str | None):
    snapshot = look(last=last, of=record(leased=True))
    assert standing_verdict("5-7", snapshot) == Verdict(State.WAIT)
    assert judge_log(at("5-7"), snapshot) == Verdict(State.WAIT)


def test_table_lower_generation_without_a_lease_is_lost_and_goes_on_from_the_first_entry():
    snapshot = look(last="4-3", of=record())
    assert standing_verdict("5-7", snapshot) == Verdict(State.LOST, gap=Gap(at("5-7"), None, None), rewind=ORIGIN)


def test_table_no_log_without_a_lease_is_lost_and_stays():
    snapshot = look(of=record())
    assert standing_verdict("5-7", snapshot) == Verdict(State.LOST, gap=Gap(at("5-7"), None, None))


@pytest.mark.parametrize("last", ["4-3", None])
def test_table_lower_generation_or_no_log_of_an_ended_task_is_its_end_from_the_record(last: str | None):
    verdict = standing_verdict("5-7", look(last=last, of=record(Status.FAILED, last="5-9")))
    assert (verdict.state, ids(verdict), verdict.gap) == (State.ENDED, ["5-9"], Gap(at("5-7"), at("5-9"), 1))


def test_table_lower_generation_of_a_shared_stream_is_lost_and_goes_on_from_the_first_entry():
    assert judge_log(at("5-7"), look(last="4-3")) == Verdict(State.LOST, gap=Gap(at("5-7"), None, None), rewind=ORIGIN)


def test_table_no_log_of_a_shared_stream_is_lost_and_stays():
    assert judge_log(at("5-7"), look()) == Verdict(State.LOST, gap=Gap(at("5-7"), None, None))


def test_table_higher_generation_reads_on_by_the_rules_before():
    assert judge_log(at("5-7"), look(event("6-0", previous="5-3"))).gap is None
    assert judge_log(at("5-7"), look(event("6-0", previous="5-9"))).gap == Gap(at("5-7"), at("6-0"), None)
    of = record(chain='[["6",null]]', leased=True)
    assert standing_verdict("5-7", look(event("6-0", previous="5-3"), of=of)).gap is None


def test_table_higher_generation_whose_entries_are_all_gone_is_a_gap_up_to_its_last_id():
    assert judge_log(at("5-7"), look(last="6-3")) == Verdict(State.MORE, gap=Gap(at("5-7"), at("6-4"), None))


# Rule 6: the end.


def test_a_cursor_at_the_recorded_end_has_everything():
    of = record(Status.COMPLETED, last="5-9")
    assert standing_verdict("5-9", look(*events(5, 9), of=of)) == Verdict(State.ENDED)
    assert judge_log(at("5-9"), look(*events(5, 9), of=of)) == Verdict(State.ENDED)


def test_the_terminal_event_that_the_record_names_ends_the_stream():
    of = record(Status.COMPLETED, last="5-1")
    found = (*events(5, 0), event("5-1", ends=True))
    assert standing_verdict("0-0", look(*found, of=of)) == Verdict(State.ENDED, found)


def test_an_old_terminal_event_ends_nothing_for_a_task_that_runs_again():
    old = (*events(5, 0), event("5-1", ends=True))
    assert judge_log(ORIGIN, look(*old, of=record(Status.PENDING, chain="[]", last="5-1"))).state is State.MORE
    assert judge_log(at("5-1"), look(old[1], of=record(Status.PENDING, chain="[]", last="5-1"))).state is State.WAIT
    assert standing_verdict("5-1", look(of=record(Status.PENDING, chain="[]", last="5-1"))).state is State.WAIT


def test_a_deleted_task_has_ended_for_every_cursor_and_is_told_to_all_but_the_one_at_its_end():
    of = record(Status.DELETED, chain="[]", last="5-9")
    for cursor in ("0-0", "5-3", "7-0"):
        assert standing_verdict(cursor, look(of=of)) == Verdict(State.ENDED, (deleted_end(at("5-9")),), is_deleted=True)
        assert judge_log(at(cursor), look(of=of)) == Verdict(State.ENDED, (deleted_end(at("5-9")),), is_deleted=True)
    assert standing_verdict("5-9", look(of=of)) == Verdict(State.ENDED, is_deleted=True)


def test_a_deleted_stream_ends_with_the_id_of_its_marker_for_every_other_cursor():
    end = deleted_end(at("5-9"))
    found = replace(look(), end=end, is_deleted=True)
    for cursor in ("0-0", "5-3", "7-0"):
        assert judge_log(at(cursor), found) == Verdict(State.ENDED, (end,), is_deleted=True)
    assert judge_log(at("5-9"), found) == Verdict(State.ENDED, is_deleted=True)


def test_of_a_shared_log_that_expired_behind_its_end_the_end_is_told_and_the_rest_is_a_gap():
    end = event("5-9", ends=True)
    found = replace(look(end), end=end)
    for cursor, gap in (
        ("0-0", Gap(None, at("5-9"), None)),
        ("5-3", Gap(at("5-3"), at("5-9"), 5)),
        ("4-3", Gap(at("4-3"), at("5-9"), None)),
        ("5-11", Gap(at("5-11"), at("5-9"), None)),
        ("5-8", None),
    ):
        assert judge_log(at(cursor), found) == Verdict(State.ENDED, (end,), gap)
    assert judge_log(at("5-9"), found) == Verdict(State.ENDED)


def test_an_expired_log_is_a_gap_then_the_terminal_event_from_the_record():
    of = record(Status.COMPLETED, last="5-9")
    verdict = standing_verdict("0-0", look(of=of))
    assert (verdict.state, ids(verdict), verdict.gap) == (State.ENDED, ["5-9"], Gap(None, at("5-9"), 9))
    assert standing_verdict("5-8", look(of=of)).gap is None


def test_a_task_cancelled_before_it_ran_ends_without_a_gap():
    of = record(Status.CANCELLED, last="5-0")
    assert standing_verdict("0-0", look(of=of)).gap is None
    assert ids(standing_verdict("0-0", look(event("5-0", previous="0-0", ends=True), of=of))) == ["5-0"]


def test_an_end_written_after_the_log_was_lost_is_a_gap_for_who_was_behind():
    # The worker is gone, the log too: no attempt announces that what came after the cursor is void.
    of = record(Status.CANCELLED, chain='[["8",null]]', last="8-0")
    snapshot = look(event("8-0", previous="0-0", ends=True), of=of)
    verdict = standing_verdict("5-3", snapshot)
    assert (verdict.state, ids(verdict), verdict.gap) == (State.ENDED, ["8-0"], Gap(at("5-3"), at("8-0"), None))
    assert standing_verdict("0-0", snapshot).gap is None


def test_an_end_written_behind_the_cursor_is_no_gap():
    of = record(Status.CANCELLED, chain='[["5",null],["8","5-3"]]', last="8-0")
    snapshot = look(event("8-0", previous="5-3", ends=True), of=of)
    assert standing_verdict("5-3", snapshot).gap is None
    assert standing_verdict("5-4", snapshot).gap is None  # a failover lost what this reader has


def test_a_shared_stream_ends_with_its_terminal_event():
    found = (*events(5, 0), event("5-1", ends=True))
    assert judge_log(ORIGIN, look(*found, closed=True)) == Verdict(State.ENDED, found)
    assert judge_log(at("5-1"), look(found[1], closed=True)) == Verdict(State.ENDED)


def test_a_stream_without_any_event_waits():
    assert judge_log(ORIGIN, look()) == Verdict(State.WAIT)
    assert standing_verdict("0-0", look(of=record(Status.PENDING, chain="[]"))) == Verdict(State.WAIT)
