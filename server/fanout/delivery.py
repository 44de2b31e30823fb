"""Serving the subscribers that rest, after their tails were woken.

Invariant: nothing waits. A tail that is woken is served in the next turn of the event loop, together with all that
arrived in this one; only a turn that wrote to very many leaves the rest to the next, so that neither Redis nor other
readers wait for a crowd. Who is served later gets what came meanwhile in one write: under load events share writes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final

from server.fanout.tail import Resting, Tail

#: Writes between two looks at the sockets: some milliseconds.
_WRITES_PER_TURN: Final = 500


class Delivery:
    """The tails in line. Belongs to one event loop."""

    def __init__(self) -> None:
        #: Each with the subscribers that its present round has still to serve.
        self._line: deque[tuple[Tail, list[Resting]]] = deque()
        self._is_due = False

    def wake(self, tail: Tail) -> None:
        """Have the tail's resting subscribers served; at once, but not before the caller is done."""
        if not tail.is_woken:
            tail.is_woken = True
            self._line.append((tail, []))
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        now, room = monotonic(), _WRITES_PER_TURN
        try:
            self._serve_line(now, room)
        finally:
            if self._line:
                self._schedule()

    def _serve_line(self, now: float, room: int) -> None:
        while self._line and room > 0:
            tail, left = self._line.popleft()
            if not left:
                # A new round: whatever wakes the tail from here on begins another one.
                tail.is_woken = False
                left = list(tail.resting)
            if len(left) > room:
                self._line.append((tail, left[room:]))
                del left[room:]
            room -= len(left) + 1
            _serve(tail, left, now)


def _serve(tail: Tail, subscriptions: list[Resting], now: float) -> None:
    """Most have the same cursor, and so the same block."""
    block_after = tail.block_after if len(subscriptions) > 1 else tail.window.after
    cursor = block = None
    for subscription in subscriptions:
        if subscription not in tail.resting:
            continue  # gone since the round began
        try:
            if subscription.cursor is not cursor:
                cursor = subscription.cursor
                block = block_after(cursor) if tail.is_current else None
            if block is None or not block.is_whole or not subscription.is_sure:
                subscription.advance()
                cursor = None  # what it did may have changed the window
            elif block.frames:
                subscription.take(block, now)
        except Exception:  # noqa: BLE001 - the boundary of one subscriber: others are not touched
            subscription.fail()
