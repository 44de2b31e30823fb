"""Looks at one log: shared while they run, kept for a moment where they last, never after they were forgotten."""

from __future__ import annotations

import asyncio

import pytest

from server.fanout.continuity import State, Verdict
from server.fanout.looks import Look, Looks
from server.streams.errors import LogUnavailable
from server.streams.ids import EventId


class Reading:
    """Counts the reads, and lets the test say when they end and what they find."""

    def __init__(self) -> None:
        self.cursors: list[EventId] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.is_lasting = True
        self.error: Exception | None = None

    async def look(self, cursor: EventId) -> Look:
        self.cursors.append(cursor)
        await self.may_end.wait()
        if self.error:
            raise self.error
        return Look(Verdict(State.MORE), frames=[b"x", b"y"], is_lasting=self.is_lasting)


@pytest.fixture
def reading() -> Reading:
    return Reading()


def at(sequence: int) -> EventId:
    return EventId(1, sequence)


async def asked(looks: Looks, cursor: EventId) -> Look:
    found = looks.at(cursor)
    return found if isinstance(found, Look) else await found


async def test_all_who_ask_for_a_cursor_while_it_is_read_get_the_same_answer(reading: Reading):
    looks = Looks(reading.look, name="look")
    reading.may_end.clear()
    tasks = [looks.at(at(0)) for _ in range(5)]
    assert len({id(task) for task in tasks}) == 1
    assert looks.is_looking
    reading.may_end.set()
    assert isinstance(tasks[0], asyncio.Task)
    assert (await tasks[0]).body == b"xy"
    assert len(reading.cursors) == 1


@pytest.mark.parametrize(("is_lasting", "reads"), [(True, 1), (False, 2)])
async def test_only_an_answer_that_lasts_is_given_again(reading: Reading, is_lasting: bool, reads: int):
    looks = Looks(reading.look, name="look")
    reading.is_lasting = is_lasting
    first = await asked(looks, at(0))
    second = await asked(looks, at(0))
    assert (len(reading.cursors), first is second) == (reads, is_lasting)


async def test_what_was_forgotten_is_read_again_also_if_it_was_under_way(reading: Reading):
    looks = Looks(reading.look, name="look")
    await asked(looks, at(0))
    looks.forget()
    reading.may_end.clear()
    running = looks.at(at(0))
    assert isinstance(running, asyncio.Task)
    await asyncio.sleep(0)
    looks.forget()
    reading.may_end.set()
    await running
    await asked(looks, at(0))
    assert len(reading.cursors) == 3


async def test_who_asks_after_something_happened_does_not_join_a_look_that_began_before(reading: Reading):
    looks = Looks(reading.look, name="look")
    reading.may_end.clear()
    before = looks.at(at(0))
    looks.forget()
    after = looks.at(at(0))
    assert before is not after
    reading.may_end.set()
    assert isinstance(before, asyncio.Task)
    assert isinstance(after, asyncio.Task)
    assert (await before).body == (await after).body
    await asyncio.sleep(0)
    assert not looks.is_looking


async def test_a_failed_look_is_everybodys_failure_and_the_next_one_tries_again(reading: Reading):
    looks = Looks(reading.look, name="look")
    reading.error = LogUnavailable("away")
    with pytest.raises(LogUnavailable):
        await asked(looks, at(0))
    reading.error = None
    assert (await asked(looks, at(0))).body == b"xy"
    assert not looks.is_looking


async def test_pages_are_kept_in_a_bounded_number_and_not_for_ever(reading: Reading):
    looks = Looks(reading.look, name="look")
    for sequence in range(50):
        await asked(looks, at(sequence))
    assert len(looks) == 16
    looks._pages = type(looks._pages)((cursor, (0.0, look)) for cursor, (_, look) in looks._pages.items())
    assert not isinstance(looks.at(at(49)), Look), "its time is over"
    looks.expire()
    await asyncio.sleep(0)
    assert at(48) not in looks._pages
