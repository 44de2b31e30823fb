"""The times that refused readers are told, which nobody but the server can spread."""

from __future__ import annotations

from server.web.refusals import Refusals


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_few_readers_are_told_one_to_three_seconds() -> None:
    refusals = Refusals(Clock())
    times = [refusals.next_retry_ms() for _ in range(200)]
    assert (min(times) >= 1000, max(times) <= 3000) == (True, True)


def test_a_storm_is_spread_to_a_hundred_readers_a_second() -> None:
    refusals = Refusals(Clock())
    times = [refusals.next_retry_ms() for _ in range(4000)]
    returning = [sum(1 for time in times if second * 1000 <= time < (second + 1) * 1000) for second in range(60)]
    assert max(returning[3:]) < 200


def test_nobody_is_told_more_than_a_minute_however_many_there_are() -> None:
    refusals = Refusals(Clock())
    assert max(refusals.next_retry_ms() for _ in range(50_000)) == 60_000


def test_old_refusals_are_forgotten() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(5000):
        refusals.next_retry_ms()
    clock.now = 61.0
    assert refusals.next_retry_ms() <= 3000
