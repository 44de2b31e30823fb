"""The one timer of all subscriptions: heartbeats, ages, second looks, readers that take nothing.

A timer for each would cost more than the reader itself. It stops while nobody subscribes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from time import monotonic
from typing import Final, Protocol

#: Calls between two looks at the sockets: a crowd whose heartbeats fall together must not hold up events.
_CALLS_PER_TURN: Final = 500


class Timed(Protocol):
    """A subscription, as the clock sees it."""

    @property
    def due_at(self) -> float:
        """When to call `on_time`, by the monotonic clock."""
        ...

    def on_time(self, now: float) -> None: ...


class Clock:
    """Calls `on_time` of each subscription whose `due_at` has come, about every `tick_seconds`."""

    def __init__(self, subscriptions: AbstractSet[Timed], *, tick_seconds: float) -> None:
        self._subscriptions = subscriptions
        self._tick_seconds = tick_seconds
        self._timer: asyncio.Handle | None = None
        self._due: list[Timed] = []

    def start(self) -> None:
        """Go on for as long as there are subscriptions."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._tick)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = monotonic()
        if not self._due:
            self._due = [each for each in self._subscriptions if each.due_at <= now]
        served, self._due = self._due[:_CALLS_PER_TURN], self._due[_CALLS_PER_TURN:]
        try:
            for subscription in served:
                if subscription.due_at <= now:
                    subscription.on_time(now)
        finally:
            self._go_on(loop)  # whatever breaks: without this clock no reader would get a heartbeat any more

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._due:
            self._timer = loop.call_soon(self._tick)
        elif self._subscriptions:
            self._timer = loop.call_later(self._tick_seconds, self._tick)
        else:
            self._timer = None
