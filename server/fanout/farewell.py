"""Sending readers away, spread over time: at a stop, and when this process can tell them nothing new any more.

Those who are sent away come back elsewhere, each with a backlog to be served; all at once they would be a storm. So
they go at an even pace, in random order. Knows nothing of why they go.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from math import ceil
from typing import Final, Protocol

#: A few readers are no storm: they need not wait for the end of a long farewell.
_AT_LEAST_PER_SECOND: Final = 10
#: How evenly it goes. At ten thousand readers in ten seconds that is fifty at a time, or a few milliseconds of work.
_TICK_SECONDS: Final = 0.05


class Leaving(Protocol):
    """A subscription, as who sends it away sees it."""

    def drain(self) -> None: ...


async def send_away(
    readers: Iterable[Leaving],
    *,
    within_seconds: float,
    goes_on: Callable[[], bool] = lambda: True,
    is_urgent: Callable[[], bool] = lambda: False,
) -> None:
    """Drain each reader, evenly within the time or sooner if they are few.

    Stops early once `goes_on` says no; sends everybody at once when `is_urgent` says so.
    """
    waiting = list(readers)
    random.shuffle(waiting)
    loop = asyncio.get_running_loop()
    count = len(waiting)
    seconds = min(within_seconds, count / _AT_LEAST_PER_SECOND)
    began = loop.time()
    while waiting and goes_on():
        # Counted from the beginning, so that a loop that was held up makes up for it.
        share = (loop.time() - began) / seconds if seconds > 0 and not is_urgent() else 1.0
        # The first goes at once, the last at the end.
        left = count - min(count, ceil(share * (count - 1)) + 1) if share < 1 else 0
        for reader in waiting[left:]:
            reader.drain()
        del waiting[left:]
        if waiting:
            await asyncio.sleep(_TICK_SECONDS)
