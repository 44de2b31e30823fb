"""The outbox: what each reply means to a writer, how much it keeps, how much it sends at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.streams.calls import Reply
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.outbox import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Conclusion, Outbox

GENERATION = 50


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def outbox(clock: Clock | None = None, *, events: int = 0) -> Outbox:
    found = Outbox(GENERATION, Draft("attempt", "{}"), clock=clock or Clock())
    for number in range(1, events + 1):
        found.add(Draft("t", str(number)))
    return found


def own(sequence: int) -> EventId:
    return EventId(GENERATION, sequence)


def store_all(box: Outbox) -> None:
    while box.unsent:
        assert box.conclude(box.next_batch(), Reply("stored")) is Conclusion.STORED


def kept(box: Outbox) -> list[int]:
    batch = box.repair_batch()
    return list(range(batch.first_sequence, batch.first_sequence + len(batch.drafts)))


def test_events_are_numbered_behind_the_attempt_without_holes():
    box = outbox()
    assert [box.add(Draft("t", "")) for _ in range(3)] == [own(1), own(2), own(3)]
    assert (box.stored, box.last_id, box.unsent) == (own(0), own(3), 3)


def test_a_batch_begins_behind_what_is_stored():
    box = outbox(events=3)
    batch = box.next_batch()
    assert (batch.generation, batch.first_sequence, [each.data for each in batch.drafts]) == (50, 1, ["1", "2", "3"])
    assert not batch.is_terminal


def test_stored_takes_the_whole_batch():
    box = outbox(events=3)
    batch = box.next_batch()
    box.add(Draft("t", "4"))
    assert box.conclude(batch, Reply("stored")) is Conclusion.STORED
    assert (box.stored, box.unsent, box.next_batch().first_sequence) == (own(3), 1, 4)


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_last_id_of_mine_means_that_the_reply_was_lost_and_the_rest_is_sent(last: int):
    box = outbox(events=3)
    assert box.conclude(box.next_batch(), Reply("differs", own(last))) is Conclusion.STORED
    assert (box.stored, [each.data for each in box.next_batch().drafts]) == (own(last), ["1", "2", "3"][last:])


@pytest.mark.parametrize("last", [own(4), EventId(GENERATION + 1, 0), EventId(GENERATION + 9, 3)])
def test_a_last_id_i_never_wrote_or_of_a_successor_means_fenced(last: EventId):
    box = outbox(events=3)
    assert box.conclude(box.next_batch(), Reply("differs", last)) is Conclusion.FENCED
    assert box.stored == own(0)


@pytest.mark.parametrize("last", [own(0), EventId(GENERATION - 1, 99), EventId(0, 0)])
def test_a_lower_last_id_means_that_redis_lost_data(last: EventId):
    box = outbox(events=3)
    store_all(box)
    box.add(Draft("t", "4"))
    assert box.conclude(box.next_batch(), Reply("differs", last)) is Conclusion.REPAIR
    assert kept(box) == [0, 1, 2, 3]


def test_a_lost_record_means_repair():
    box = outbox(events=1)
    assert box.conclude(box.next_batch(), Reply("lost", own(0))) is Conclusion.REPAIR


def test_another_owner_in_the_record_means_fenced():
    box = outbox(events=1)
    assert box.conclude(box.next_batch(), Reply("fenced", own(0))) is Conclusion.FENCED


def test_a_closed_log_is_mine_if_it_ends_with_my_terminal_event_and_fences_otherwise():
    box = outbox(events=1)
    box.add(Draft("complete", "{}"), is_terminal=True)
    store_all(box)
    assert box.conclude(box.next_batch(), Reply("closed", own(2))) is Conclusion.STORED
    other = outbox(events=1)
    assert other.conclude(other.next_batch(), Reply("closed", own(0))) is Conclusion.FENCED


def test_an_unknown_answer_fences():
    box = outbox(events=1)
    assert box.conclude(box.next_batch(), Reply("exhausted")) is Conclusion.FENCED


def test_a_repair_sends_what_was_stored_once_and_not_what_was_never_sent():
    box = outbox(events=2)
    store_all(box)
    box.add(Draft("t", "3"))
    batch = box.repair_batch()
    assert (batch.first_sequence, [each.data for each in batch.drafts]) == (0, ["{}", "1", "2"])
    assert not batch.is_terminal


def test_only_the_batch_that_reaches_the_terminal_event_is_terminal():
    box = outbox(events=MAX_BATCH_EVENTS + 1)
    box.add(Draft("complete", "{}"), is_terminal=True)
    first = box.next_batch()
    assert (len(first.drafts), first.is_terminal) == (MAX_BATCH_EVENTS, False)
    box.conclude(first, Reply("stored"))
    assert box.next_batch().is_terminal
    store_all(box)
    assert box.repair_batch().is_terminal
    assert box.next_batch().drafts == []


def test_nothing_is_taken_in_behind_the_terminal_event():
    box = outbox()
    box.add(Draft("complete", "{}"), is_terminal=True)
    with pytest.raises(RuntimeError, match="terminal"):
        box.add(Draft("t", ""))


def test_a_batch_is_bounded_by_bytes_but_holds_one_event_at_least():
    box = outbox()
    for size in (MAX_BATCH_BYTES * 2, MAX_BATCH_BYTES - 10, 11):
        box.add(Draft("t", "x" * size))
    sizes: list[int] = []
    while box.unsent:
        sizes.append(len(box.next_batch().drafts))
        box.conclude(box.next_batch(), Reply("stored"))
    assert sizes == [1, 1, 1]


def test_stored_events_are_kept_for_about_ten_seconds():
    clock = Clock()
    box = outbox(clock)
    for _ in range(30):
        box.add(Draft("t", "x"))
        store_all(box)
        clock.now += 1
    assert kept(box) == list(range(20, 31))


def test_the_newest_stored_event_is_kept_for_ever():
    clock = Clock()
    box = outbox(clock, events=5)
    store_all(box)
    clock.now += 10_000
    assert box.conclude(box.next_batch(), Reply("stored")) is Conclusion.STORED  # an empty probe
    assert kept(box) == [5]


def test_what_is_kept_is_bounded_by_number_and_bytes():
    box = outbox(events=10_000)
    store_all(box)
    assert len(kept(box)) == 4096
    heavy = outbox()
    for _ in range(40):
        heavy.add(Draft("t", "x" * 500_000))
        store_all(heavy)
    assert len(kept(heavy)) == 16


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.floats(0, 8)), max_size=40))
def test_unsent_and_kept_add_up_whatever_was_stored_when(steps: list[tuple[int, int, float]]):
    clock, given_out = Clock(), 0
    box = outbox(clock)
    for added, stored, seconds in steps:
        for _ in range(added):
            given_out += 1
            box.add(Draft("t", "x" * given_out))
        clock.now += seconds
        batch = box.next_batch()
        last = min(box.stored.sequence + stored, box.last_id.sequence)
        reply = Reply("stored") if last == box.last_id.sequence else Reply("differs", own(last))
        if last > box.stored.sequence or reply.outcome == "stored":
            box.conclude(batch, reply)
        held = kept(box)
        assert held == list(range(held[0], box.stored.sequence + 1))
        assert box.unsent == given_out - box.stored.sequence
        assert box.unsent_bytes == sum(range(box.stored.sequence + 1, given_out + 1))
        assert [len(each.data) for each in box.repair_batch().drafts if each.type == "t"] == [n for n in held if n]
