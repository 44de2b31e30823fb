"""The clock of all subscriptions: who is due is called, a crowd in several turns, and it stops with the last one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

from server.fanout.clock import Clock
from tests.support.waiting import wait_until


@dataclass(eq=False)
class Due:
    """Is due once; then never again."""

    due_at: float
    calls: int = 0

    def on_time(self, now: float) -> None:
        self.calls += 1
        self.due_at = float("inf")


def clock_of(found: set[Due]) -> Clock:
    return Clock(found, tick_seconds=0.001)


async def test_whoever_is_due_is_called_once_and_others_are_not():
    now = monotonic()
    due, later = {Due(now) for _ in range(1200)}, {Due(now + 3600) for _ in range(10)}
    everybody = due | later
    clock_of(everybody).start()
    await wait_until(lambda: all(each.calls for each in due), description="all who are due were called")
    assert {each.calls for each in due} == {1}
    assert {each.calls for each in later} == {0}
    everybody.clear()


async def test_a_clock_goes_on_when_one_call_breaks():
    class Broken(Due):
        def on_time(self, now: float) -> None:
            super().on_time(now)
            raise RuntimeError("a bug")

    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    broken = Broken(0.0)
    found: set[Due] = {broken}
    clock_of(found).start()
    await wait_until(lambda: broken.calls == 1, description="the broken one was called")
    late = Due(monotonic())
    found.add(late)
    await wait_until(lambda: late.calls == 1, description="the clock goes on")
    found.clear()


async def test_a_clock_stops_with_the_last_subscription_and_starts_again():
    found = {Due(0.0)}
    clock = clock_of(found)
    clock.start()
    await wait_until(lambda: all(each.calls for each in found), description="called")
    found.clear()
    await wait_until(lambda: clock._timer is None, description="the clock has stopped")
    again = Due(0.0)
    found.add(again)
    clock.start()
    await wait_until(lambda: again.calls == 1, description="called again")
    found.clear()
    await asyncio.sleep(0)
