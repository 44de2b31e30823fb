"""Serving those who rest: everybody once a round, a crowd in several turns, and what breaks breaks alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from server.fanout.delivery import Delivery
from server.fanout.tail import Tail
from server.fanout.window import Block
from server.streams.ids import EventId
from server.streams.log import Log


@dataclass(eq=False)
class Reader:
    """Takes blocks, and notes the turn of the event loop in which it did."""

    tail: Tail
    turns: list[int]
    cursor: EventId = field(default_factory=lambda: EventId(1, 0))
    is_sure: bool = True
    is_broken: bool = False
    took: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    failed: bool = False
    advanced: int = 0

    def take(self, block: Block, now: float) -> None:
        if self.is_broken:
            raise RuntimeError("a bug")
        self.cursor = block.cursor
        self.took.append((self.turns[0], block.body))

    def advance(self) -> None:
        self.advanced += 1

    def fail(self) -> None:
        self.failed = True


def a_tail(delivery: Delivery, count: int) -> tuple[Tail, list[Reader], list[int]]:
    """A tail that is up to date, and readers at its end. (Nothing here reads the log.)"""
    turns = [0]
    log = cast("Log", None)
    tail = Tail(log, "chat", all_attempts=False, window_bytes=10_000, lease_seconds=1, on_wake=delivery.wake)
    tail.window.start(EventId(1, 0))
    tail.is_behind = False
    readers = [Reader(tail, turns) for _ in range(count)]
    for reader in readers:
        tail.resting[reader] = None
    return tail, readers, turns


def ring(sequence: int) -> bytes:
    return f"1-{sequence} - - 1\nt 0 0 1\nx".encode()


async def pass_turns(turns: list[int], count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
        turns[0] += 1


async def test_rings_of_one_turn_share_one_write():
    delivery = Delivery()
    tail, readers, turns = a_tail(delivery, 3)
    tail.ring(ring(1))
    tail.ring(ring(2))
    assert not readers[0].took, "the writer of a ring waits for nobody's delivery"
    await pass_turns(turns, 2)
    assert [len(reader.took) for reader in readers] == [1, 1, 1]
    assert readers[0].took[0][1].count(b"event: t") == 2
    assert readers[0].took[0][1] is readers[2].took[0][1], "the block is made once"


async def test_a_crowd_is_served_in_several_turns_and_who_comes_later_gets_more_at_once():
    delivery = Delivery()
    tail, readers, turns = a_tail(delivery, 1200)
    tail.ring(ring(1))
    await pass_turns(turns, 1)
    assert sum(bool(reader.took) for reader in readers) == 500
    tail.ring(ring(2))
    await pass_turns(turns, 10)
    bodies = [b"".join(body for _, body in reader.took) for reader in readers]
    assert {body.count(b"event: t") for body in bodies} == {2}
    assert len(readers[0].took) == 2
    assert len(readers[-1].took) == 1


async def test_another_stream_is_served_between_two_turns_of_a_crowd():
    delivery = Delivery()
    crowd, many, turns = a_tail(delivery, 2000)
    other, [one], _ = a_tail(delivery, 1)
    one.turns = turns
    crowd.ring(ring(1))
    other.ring(ring(1))
    await pass_turns(turns, 10)
    assert one.took[0][0] < max(reader.took[0][0] for reader in many)


async def test_one_that_left_during_the_round_is_passed_over():
    delivery = Delivery()
    tail, readers, turns = a_tail(delivery, 600)
    tail.ring(ring(1))
    await pass_turns(turns, 1)
    tail.resting.pop(readers[-1])
    await pass_turns(turns, 3)
    assert not readers[-1].took
    assert all(reader.took for reader in readers[:-1])


async def test_one_that_breaks_breaks_alone():
    delivery = Delivery()
    tail, readers, turns = a_tail(delivery, 3)
    readers[1].is_broken = True
    tail.ring(ring(1))
    await pass_turns(turns, 2)
    assert [reader.failed for reader in readers] == [False, True, False]
    assert [len(reader.took) for reader in readers] == [1, 0, 1]


async def test_one_whose_cursor_the_window_does_not_know_looks_for_itself():
    delivery = Delivery()
    tail, readers, turns = a_tail(delivery, 3)
    readers[0].cursor = EventId(1, 77)
    readers[1].is_sure = False
    tail.ring(ring(1))
    await pass_turns(turns, 2)
    assert [reader.advanced for reader in readers] == [1, 1, 0]
    assert [len(reader.took) for reader in readers] == [0, 0, 1]


async def test_nothing_is_due_where_nobody_rests():
    delivery = Delivery()
    tail, readers, _ = a_tail(delivery, 1)
    tail.resting.clear()
    tail.ring(ring(1))
    assert cast("Any", delivery)._line == type(cast("Any", delivery)._line)()
    assert not readers[0].took
