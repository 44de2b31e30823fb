"""A worker's lease of one task, by the worker's own clock.

Invariant: `is_fresh` is never true for longer than Redis honours the lease, because a renewal counts from the moment it
was *asked* for. The clock is CLOCK_BOOTTIME where there is one: a machine that slept did not renew. Pure but for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Final

_CLOCK_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

#: A renewal at a fifth of the lease leaves room for four that go missing.
RENEWALS_PER_LEASE: Final = 5


def boot_seconds() -> float:
    """Seconds since boot, sleep included."""
    return time.clock_gettime(_CLOCK_ID)


class Lease:
    """When a claim was last known to hold. Threads may read and renew it: each step is one assignment."""

    def __init__(self, seconds: float, *, asked_at: float, clock: Callable[[], float] = boot_seconds) -> None:
        self.seconds = seconds
        self._clock = clock
        #: When the last successful claim or renewal was sent.
        self._asked_at = asked_at

    @property
    def is_fresh(self) -> bool:
        """Whether Redis still honours the lease for certain."""
        return self._clock() - self._asked_at < self.seconds

    def renewed(self, *, asked_at: float) -> None:
        """Note a renewal that Redis granted, sent at `asked_at` by this lease's clock."""
        self._asked_at = max(self._asked_at, asked_at)

    def end(self) -> None:
        """Note that the lease was given up."""
        self._asked_at = -inf
