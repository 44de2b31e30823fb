"""Sending readers away: evenly over the time there is, quickly if they are few, at once if somebody is in a hurry."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from server.fanout.farewell import send_away
from tests.model.clock import VirtualLoop


@dataclass
class Crowd:
    """Readers that note when they were drained."""

    loop: VirtualLoop
    drained_at: list[float] = field(default_factory=list[float])
    order: list[int] = field(default_factory=list[int])

    def reader(self, number: int) -> Reader:
        return Reader(self, number)


@dataclass
class Reader:
    crowd: Crowd
    number: int

    def drain(self) -> None:
        self.crowd.drained_at.append(self.crowd.loop.time())
        self.crowd.order.append(self.number)


def run(loop: VirtualLoop, work: Coroutine[Any, Any, None]) -> float:
    """Run in virtual time; how long it took."""
    began = loop.time()
    try:
        loop.run_until_complete(work)
        return loop.time() - began
    finally:
        loop.close()


def crowd_of(count: int) -> tuple[Crowd, list[Reader]]:
    crowd = Crowd(VirtualLoop())
    return crowd, [crowd.reader(number) for number in range(count)]


def test_a_crowd_leaves_evenly_over_the_time_and_in_random_order():
    crowd, readers = crowd_of(1000)
    took = run(crowd.loop, send_away(readers, within_seconds=8))
    assert took == pytest.approx(8, abs=0.1)
    assert sorted(crowd.order) == list(range(1000))
    assert crowd.order != list(range(1000))
    began = crowd.drained_at[0]
    per_second = [sum(began + n <= at < began + n + 1 for at in crowd.drained_at) for n in range(8)]
    assert all(110 <= count <= 140 for count in per_second), per_second


def test_two_readers_need_not_wait_for_the_end_of_a_long_farewell():
    crowd, readers = crowd_of(2)
    assert run(crowd.loop, send_away(readers, within_seconds=3600)) < 0.5
    assert len(crowd.order) == 2


def test_the_last_reader_is_gone_when_the_time_is_over_even_if_the_loop_was_held_up():
    crowd, readers = crowd_of(100)
    held_up = iter([True])

    def hold_up() -> bool:
        if crowd.order and next(held_up, False):
            crowd.loop._pass(3)
        return True

    assert run(crowd.loop, send_away(readers, within_seconds=4, goes_on=hold_up)) == pytest.approx(4, abs=0.1)
    assert len(crowd.order) == 100


def test_everybody_leaves_at_once_when_somebody_is_in_a_hurry():
    crowd, readers = crowd_of(1000)
    run(crowd.loop, send_away(readers, within_seconds=60, is_urgent=lambda: len(crowd.order) >= 100))
    assert len(crowd.order) == 1000
    assert max(right - left for left, right in pairwise(crowd.drained_at)) < 1
    assert crowd.drained_at[-1] - crowd.drained_at[0] < 10


def test_the_rest_stays_when_there_is_no_reason_to_go_any_more():
    crowd, readers = crowd_of(100)
    run(crowd.loop, send_away(readers, within_seconds=8, goes_on=lambda: len(crowd.order) < 10))
    assert 10 <= len(crowd.order) < 20


def test_nobody_to_send_away_takes_no_time():
    crowd, readers = crowd_of(0)
    assert run(crowd.loop, send_away(readers, within_seconds=8)) < 0.01
