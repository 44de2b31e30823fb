"""The witness of a chaos run: it must see each way in which a reader can be misled, and blame nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chaos.follower import Follower
from tests.chaos.sse import Message
from tests.chaos.truth import Script, result

SCRIPT = Script("7-1", 6, pause_ms=10, checkpoint_every=3, fail_at=(), ends="complete", ballast=5)
#: Generations of the first and the second attempt.
FIRST, SECOND = 1000, 2000


class Told:
    """What a reader is told, one message after the other."""

    def __init__(self) -> None:
        self.follower = Follower("reader", SCRIPT, lambda: 1.0)

    def event(self, event_id: str, type: str, data: Mapping[str, Any] | None = None) -> Told:
        self.follower.saw(Message(type, json.dumps(data or {}), event_id))
        return self

    def attempt(self, generation: int, resume_from: str | None = None) -> Told:
        return self.event(f"{generation}-0", "attempt", {"attempt": 1, "resume_from": resume_from})

    def number(self, event_id: str, number: int) -> Told:
        return self.event(event_id, "number", SCRIPT.payload(number) | {"pid": 5})

    def checkpoint(self, event_id: str) -> Told:
        return self.event(event_id, "checkpoint")

    def gap(self, requested: str | None, resumed_at: str | None) -> Told:
        return self.event("", "gap", {"stream": "s", "requested": requested, "resumed_at": resumed_at, "missed": None})

    def end(self, event_id: str) -> Told:
        return self.event(event_id, "complete", {"result": result(SCRIPT.key, SCRIPT.events)})

    @property
    def kinds(self) -> list[str]:
        return [violation.kind for violation in self.follower.violations]


def first_half(generation: int = FIRST) -> Told:
    """Up to the first checkpoint, which is `-4`."""
    told = Told().attempt(generation)
    return (
        told.number(f"{generation}-1", 0)
        .number(f"{generation}-2", 1)
        .number(f"{generation}-3", 2)
        .checkpoint(f"{generation}-4")
    )


def rest(told: Told, generation: int, first: int) -> Told:
    for place, number in enumerate((3, 4, 5)):
        told.number(f"{generation}-{first + place}", number)
    return told.checkpoint(f"{generation}-{first + 3}").end(f"{generation}-{first + 4}")


def test_a_whole_run_is_blamed_for_nothing():
    told = rest(first_half(), FIRST, 5)
    assert told.kinds == []
    assert (told.follower.events, told.follower.has_ended) == (10, True)


def test_an_attempt_that_resumes_voids_what_came_behind_the_checkpoint():
    told = first_half().number(f"{FIRST}-5", 3).attempt(SECOND, f"{FIRST}-4")
    assert rest(told, SECOND, 1).kinds == []


def test_an_attempt_without_a_checkpoint_voids_everything():
    told = Told().attempt(FIRST).number(f"{FIRST}-1", 0).attempt(SECOND)
    for place, number in enumerate((0, 1, 2), start=1):
        told.number(f"{SECOND}-{place}", number)
    assert rest(told.checkpoint(f"{SECOND}-4"), SECOND, 5).kinds == []


def test_an_event_that_was_left_out_is_a_hole():
    assert Told().attempt(FIRST).number(f"{FIRST}-2", 1).kinds == ["hole"]


def test_a_hole_that_ids_do_not_show_is_seen_by_the_numbers():
    assert Told().attempt(FIRST).number(f"{FIRST}-1", 1).kinds == ["hole"]


def test_a_checkpoint_that_was_left_out_is_a_hole():
    told = Told().attempt(FIRST).number(f"{FIRST}-1", 0).number(f"{FIRST}-2", 1).number(f"{FIRST}-3", 2)
    assert told.number(f"{FIRST}-4", 3).kinds == ["hole"]


def test_an_attempt_that_resumes_from_what_was_never_told_is_a_hole():
    told = Told().attempt(FIRST).number(f"{FIRST}-1", 0).attempt(SECOND, f"{FIRST}-4")
    assert told.kinds == ["hole"]


def test_an_end_before_the_last_number_is_a_hole():
    assert first_half().end(f"{FIRST}-5").kinds == ["hole"]


def test_a_generation_that_does_not_begin_at_its_beginning_is_a_hole():
    assert "hole" in first_half().number(f"{SECOND}-1", 3).kinds


def test_an_event_that_comes_twice_is_a_repeat():
    assert "repeat" in Told().attempt(FIRST).number(f"{FIRST}-1", 0).number(f"{FIRST}-1", 0).kinds


def test_a_number_that_comes_twice_under_new_ids_is_a_repeat():
    assert Told().attempt(FIRST).number(f"{FIRST}-1", 0).number(f"{FIRST}-2", 0).kinds == ["repeat"]


def test_a_position_that_goes_back_is_a_repeat_and_one_that_goes_on_is_a_hole():
    assert first_half().event(f"{FIRST}-2", "position").kinds == ["repeat"]
    assert first_half().event(f"{FIRST}-9", "position").kinds == ["hole"]
    assert first_half().event(f"{FIRST}-4", "position").kinds == []


def test_an_attempt_told_from_the_record_may_show_a_hole_only_if_a_gap_says_so_at_once():
    opening = {"attempt": 2, "resume_from": f"{FIRST}-4"}
    told = Told().event("", "attempt", opening).event("", "attempt", opening)  # cut off, and told again
    told.gap(None, f"{SECOND}-2").event(f"{SECOND}-1", "position").number(f"{SECOND}-2", 4)
    assert told.kinds == []
    assert "hole" in Told().event("", "attempt", opening).number(f"{SECOND}-1", 3).kinds
    assert "hole" in Told().event("", "attempt", opening).event(f"{SECOND}-1", "position").kinds


def test_the_longest_silence_is_between_two_events():
    moments = iter([1.0, 3.0, 10.0])
    told, now = Told(), 0.0
    told.follower.clock = lambda: now
    for number, now in enumerate(moments):  # noqa: B007 - the clock reads it
        told.number(f"{FIRST}-{number}", number)
    assert told.follower.longest_silence == 7.0


def test_a_hole_that_was_announced_is_none():
    told = first_half().gap(f"{FIRST}-4", f"{FIRST}-6").event(f"{FIRST}-5", "position").number(f"{FIRST}-6", 4)
    told.number(f"{FIRST}-7", 5).checkpoint(f"{FIRST}-8").end(f"{FIRST}-9")
    assert told.kinds == []
    assert [gap.missing for gap in told.follower.gaps] == [1]


def test_a_gap_remembers_since_when_the_reader_was_where_it_was():
    told = first_half()
    told.follower.clock = lambda: 9.0
    told.number(f"{FIRST}-5", 3)
    told.follower.clock = lambda: 20.0
    told.gap(f"{FIRST}-5", f"{FIRST}-9").event(f"{FIRST}-8", "position")
    told.follower.clock = lambda: 30.0
    told.gap(f"{FIRST}-8", None)
    assert [(gap.at, gap.cursor_at) for gap in told.follower.gaps] == [(20.0, 9.0), (30.0, 20.0)]


def test_a_gap_excuses_no_repeat():
    told = first_half().gap(f"{FIRST}-4", f"{FIRST}-6").event(f"{FIRST}-5", "position").number(f"{FIRST}-6", 2)
    assert told.kinds == ["repeat"]


def test_a_gap_may_go_back_to_the_beginning():
    told = first_half(SECOND).gap(f"{SECOND}-4", None).event("0-0", "position").attempt(FIRST)
    assert told.number(f"{FIRST}-1", 0).kinds == []


def test_a_gap_from_elsewhere_than_the_readers_place_is_blamed():
    assert first_half().gap(f"{FIRST}-1", f"{FIRST}-6").kinds == ["gap"]


@pytest.mark.parametrize("data", [{"n": 0, "sum": "x", "ballast": "", "pid": 5}, {}, {"n": "0"}])
def test_an_event_of_another_content_is_corrupt(data: dict[str, Any]):
    assert Told().attempt(FIRST).event(f"{FIRST}-1", "number", data).kinds == ["corrupt"]
