"""What every writer has that appends by a lane: a bound, a line for those who wait, and one call under way at most.

Invariant: who calls first is taken in first. Events that arrive while a call is under way go together in the next; one
that Redis refused for now, or whose fate is unknown, is followed by a pause that grows; what Redis refuses for good
ends the writer. One that got no answer for its patience is told. What calls say and what their answers mean is for the
kind of writer; this knows neither logs nor records.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any, Final, Protocol

from server.streams.calls import Call
from server.streams.errors import LogRefused, LogUnavailable
from server.streams.jitter import jitter
from server.streams.lane import MAX_UNSENT_BYTES, Lane
from server.streams.lanes import Lanes

_log = logging.getLogger(__name__)

#: Above this a caller waits: one that outruns Redis must slow down, not grow.
_MAX_UNSENT_EVENTS: Final = 4000
_MAX_UNSENT_BYTES: Final = 4 << 20
#: Whoever only emits lets the others run after so many events: some 50 microseconds of them.
_EVENTS_PER_TURN: Final = 8
_BACKOFF_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class Unsent(Protocol):
    """What was taken in and is not known to be stored."""

    @property
    def unsent(self) -> int:
        """How many events."""
        ...

    @property
    def unsent_bytes(self) -> int: ...


class LaneWriter(ABC):
    """A source of the lane. Belongs to the lane's event loop."""

    def __init__(self, lane: Lane | Lanes, unsent: Unsent, *, title: str, key: str, patience_seconds: float) -> None:
        """`title` names it in the log: "task abc". `key` is one of its stream's.

        `patience_seconds`: for how long Redis may store nothing.
        """
        self.key = key
        self._lane = lane
        self._held = unsent
        self._title = title
        #: Whether the lane has it enlisted, or its call is under way, or it pauses after a failure.
        self._is_busy = False
        self._failures = 0
        self._pause: asyncio.TimerHandle | None = None
        self._events_in_turn = 0
        #: Whoever finds no room waits here in line, and whoever comes meanwhile behind them.
        self._line = asyncio.Lock()
        self._in_line = 0
        #: Who waits until something is settled: the first in line for room, others for the end of what they asked for.
        self._waiting: list[asyncio.Future[None]] = []
        self._failure: Exception | None = None
        #: Why callers that would have to wait do not.
        self._refrain: BaseException | None = None
        self._patience_seconds = patience_seconds
        #: Since when nothing was answered, by the loop's clock, and the timer that looks at it while it is busy.
        self._quiet_since = 0.0
        self._look: asyncio.TimerHandle | None = None

    # For the kind of writer.

    @property
    @abstractmethod
    def _has_more(self) -> bool:
        """Whether there is something to say to Redis."""

    @abstractmethod
    def _next_call(self) -> Call[Any] | None:
        """What to say now; None if the writer has failed in the meantime."""

    @abstractmethod
    def _heard(self, answer: Any) -> None:
        """Take the answer to that call."""

    @abstractmethod
    def _lose_patience(self) -> None:
        """Nothing was answered for the patience, although there is something to say."""

    @property
    def trouble(self) -> str:
        """Why nothing is stored at the moment, as a sentence; empty if that is not known."""
        return self._lane.trouble

    def _is_turn_over(self) -> bool:
        """Count an event that was taken in; whether its caller should let others run now."""
        self._events_in_turn += 1
        if self._events_in_turn < _EVENTS_PER_TURN:
            return False
        self._events_in_turn = 0
        return True

    def _close(self, reason: Exception) -> None:
        """Take nothing more in, and forget what is unsent. Whoever waits hears the reason, or why it failed before."""
        if self._pause:
            self._pause.cancel()
        if self._look:
            self._look.cancel()
        self._lane.unsent_bytes -= self._held.unsent_bytes
        if self._failure is None:
            self._fail(reason)

    # Who waits.

    @property
    def _is_full(self) -> bool:
        held = self._held
        if held.unsent_bytes >= _MAX_UNSENT_BYTES or held.unsent >= _MAX_UNSENT_EVENTS:
            return True
        # With nothing unsent nothing would ever wake it: each writer may have one event in.
        return self._lane.unsent_bytes >= MAX_UNSENT_BYTES and held.unsent > 0

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    async def _wait_for_room(self) -> None:
        """Wait for room in the order of the calls: who comes later must not get the lower id."""
        self._in_line += 1
        try:
            async with self._line:
                while self._is_full and self._refrain is None:
                    self._lane.hurry()
                    await self._settled()
        finally:
            self._in_line -= 1
        if self._refrain:
            raise self._refrain

    async def _settled(self) -> None:
        """Wait until a reply changed something."""
        self._check()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter
        self._check()

    def _wake_all(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, failure: Exception) -> None:
        self._failure = failure
        if self._look:
            self._look.cancel()
            self._look = None
        self._wake_all()

    # What the lane calls, and what it needs to know.

    def _enlist(self, *, hurry: bool = False) -> None:
        if not self._is_busy and self._failure is None:
            self._is_busy = True
            if self._failures == 0:
                self._quiet_since = asyncio.get_running_loop().time()
            if self._look is None:
                self._look = asyncio.get_running_loop().call_later(self._patience_seconds, self._look_at_patience)
            self._lane.enlist(self, hurry=hurry)
        elif hurry:
            self._lane.hurry()

    def next_call(self) -> Call[Any] | None:
        if self._failure:
            return None
        if not self._has_more:
            self._is_busy = False
            return None
        return self._next_call()

    def heard(self, answer: Any) -> None:
        self._failures = 0
        if self._failure is None:
            self._heard(answer)
            self._go_on()

    def failed(self, error: LogUnavailable) -> None:
        if self._failure:
            return
        if isinstance(error, LogRefused):
            _log.error("The writer of %s gives up: %s", self._title, error)
            self._fail(error)
            return
        self._failures += 1
        pause = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS)) - 1] * jitter.uniform(0.7, 1.3)
        self._pause = asyncio.get_running_loop().call_later(pause, self._go_on)

    def broke(self, error: Exception) -> None:
        _log.error("The writer of %s failed", self._title, exc_info=error)
        if self._failure is None:
            self._fail(error)

    def _go_on(self) -> None:
        self._is_busy = False
        if self._has_more:
            self._enlist(hurry=bool(self._waiting))

    def _look_at_patience(self) -> None:
        self._look = None
        if not self._is_busy or self._failure:
            return  # the next time it has something to say the time begins anew
        loop = asyncio.get_running_loop()
        left = self._quiet_since + self._patience_seconds - loop.time()
        if left > 0:
            self._look = loop.call_later(left, self._look_at_patience)
        else:
            self._lose_patience()
