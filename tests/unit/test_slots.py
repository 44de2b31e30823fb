"""Slots: neither the worker's number nor that of a type is ever exceeded, and whoever waits is woken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.streams.ready import QueueEntry, Room
from workers.slots import Slots

LIMITS: dict[str, int | None] = {"free": None, "one": 1, "two": 2}


def entry(task_type: str, number: int = 0, *, queue: str = "default") -> QueueEntry:
    return QueueEntry(f"reprise:{{queue.{queue}}}:ready:{task_type}", f"{number}-0", f"t{number}")


def test_a_type_is_full_at_its_limit_in_all_queues_together_and_others_are_not():
    slots = Slots(5, LIMITS)
    slots.occupy(entry("two", 1))
    slots.occupy(entry("two", 2, queue="high"))
    assert not slots.fits(entry("two", 3))
    assert slots.fits(entry("free", 4))
    assert (slots.room().total, slots.room().of_type) == (3, {"one": 1, "two": 0})


def test_the_workers_number_is_above_all_limits():
    slots = Slots(1, LIMITS)
    slots.occupy(entry("one"))
    assert not slots.fits(entry("free", 1))
    assert not slots.open.is_set()


def test_a_worker_whose_types_are_all_full_has_nothing_to_wait_for_until_one_ends():
    slots = Slots(5, {"one": 1})
    slots.occupy(entry("one"))
    assert not slots.open.is_set()
    slots.leave(entry("one"))
    assert slots.open.is_set()


def test_only_a_type_that_was_full_wakes_whoever_waits_for_others():
    slots = Slots(5, LIMITS)
    for number, task_type in enumerate(("free", "two", "one")):
        slots.occupy(entry(task_type, number))
    slots.leave(entry("free", 0))
    slots.leave(entry("two", 1))
    assert not slots.eased.is_set()
    slots.leave(entry("one", 2))
    assert slots.eased.is_set()


def test_a_slot_is_given_back_once():
    slots = Slots(1, LIMITS)
    slots.occupy(entry("one"))
    for _ in range(2):
        slots.leave(entry("one"))
    assert (len(slots), slots.room().total, slots.room().of_type["one"]) == (0, 1, 1)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(sorted(LIMITS)), st.integers(0, 9))), st.integers(1, 4))
def test_whatever_comes_and_goes_no_number_is_exceeded(steps: list[tuple[bool, str, int]], concurrency: int):
    slots, held = Slots(concurrency, LIMITS), set[QueueEntry]()
    for comes, task_type, number in steps:
        each = entry(task_type, number)
        if comes and each not in held and slots.fits(each):
            slots.occupy(each)
            held.add(each)
        elif not comes:
            slots.leave(each)
            held.discard(each)
        of_type = {name: sum(one.task_type == name for one in held) for name in LIMITS}
        assert len(held) == len(slots) <= concurrency
        assert all(of_type[name] <= (most or concurrency) for name, most in LIMITS.items())
        can_take = any(slots.fits(entry(name, 99)) for name in LIMITS)
        assert slots.open.is_set() == can_take


def test_a_room_counts_down_what_is_taken_in_all_and_of_its_type():
    room = Room(3, {"one": 1})
    assert [room.of(entry(name).stream) for name in ("one", "free")] == [1, 3]
    room.take([entry("one"), entry("free", 1)])
    assert [room.of(entry(name).stream) for name in ("one", "free")] == [0, 1]
