"""The lease by the worker's own clock: never believed for longer than Redis honours it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.streams.lease import Lease, boot_seconds

times = st.floats(0, 1000)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_lease_counts_from_when_it_was_asked_for_and_not_from_the_answer():
    clock = Clock(3.0)  # the answer took three seconds
    lease = Lease(10, asked_at=0.0, clock=clock)
    assert lease.is_fresh
    clock.now = 9.9
    assert lease.is_fresh
    clock.now = 10.0
    assert not lease.is_fresh


def test_a_renewal_makes_it_fresh_again():
    clock = Clock(12.0)
    lease = Lease(10, asked_at=0.0, clock=clock)
    assert not lease.is_fresh
    lease.renewed(asked_at=11.0)
    assert lease.is_fresh
    clock.now = 21.0
    assert not lease.is_fresh


def test_an_old_renewal_that_is_answered_late_takes_nothing_back():
    clock = Clock(12.0)
    lease = Lease(10, asked_at=0.0, clock=clock)
    lease.renewed(asked_at=11.0)
    lease.renewed(asked_at=2.0)
    assert lease.is_fresh


@given(st.lists(times, min_size=1), times)
def test_it_is_fresh_exactly_within_its_time_of_the_newest_question(asked: list[float], now: float):
    lease = Lease(10, asked_at=asked[0], clock=Clock(now))
    for each in asked[1:]:
        lease.renewed(asked_at=each)
    assert lease.is_fresh == (now - max(asked) < 10)


def test_the_clock_goes_forward():
    assert boot_seconds() <= boot_seconds()
