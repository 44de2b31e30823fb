"""One subscriber: the loop from log pages to window to waiting, which is replay, live and slow reader in one.

Invariant: a subscriber holds a cursor and nothing else; it takes what lies behind the cursor in one write, and when it
falls out of the window it goes back to the log. So one that reads slowly costs memory to nobody.

What the loop waits for, and how it wakes: a ring or the sweep (`Tail.wake`), the next heartbeat, the end of its age,
the next try after Redis was away.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal

from server.fanout.continuity import State, Verdict
from server.fanout.frames import (
    HEARTBEAT_COMMENT,
    HEARTBEAT_EVENT,
    attempt_frame,
    event_frame,
    gap_frame,
    position_frame,
    retry_frame,
    with_prefix,
)
from server.fanout.tail import Tail
from server.streams.errors import LogUnavailable
from server.streams.ids import ORIGIN, EventId

#: After its age a reader comes back at once; after a drain it must not find all the others at the next replica.
_AGED_RETRY_MS: Final = 500
_DRAIN_RETRY_MS: Final = (1000, 3000)
#: Between looks while Redis is away, or while it is not sure yet that something is lost.
_UNSURE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Start:
    """Where and how a subscriber begins."""

    #: Everything after this; beats `at` and `last`.
    cursor: EventId | None = None
    #: An end of the stream; None for the stream's own choice.
    at: Literal["earliest", "latest"] | None = None
    #: The newest so many events of the newest generation.
    last: int | None = None
    #: Whether superseded attempts are shown as well.
    all_attempts: bool = False
    #: Whether heartbeats are events, which a page can see, and not comments.
    heartbeat_events: bool = False
    #: What to put in front of each id, which makes it composite: "<stream>:".
    id_prefix: str = ""
    #: Whether the first event is `position` even if a real one could be sent.
    announce_position: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The times that all subscriptions share, in seconds."""

    heartbeat: float
    max_age: float
    lease: float


class Subscription:
    """A subscriber from its first look to its end. `frames` is iterated once; `aclose` may be called at any time."""

    def __init__(self, tail: Tail, start: Start, *, cursor: EventId, first: Verdict, pace: Pace) -> None:
        self._tail = tail
        self._start = start
        self._cursor = cursor
        #: The look that decided whether there is anything to stream; used instead of a second one.
        self._pending: Verdict | None = first
        self._pace = pace
        #: Set by the hub; called once.
        self.on_close: Callable[[], None] | None = None
        self._is_draining = False
        self._lost_since: float | None = None
        self._told_gap_at: EventId | None = None
        self._is_ended = False
        #: Whether the cursor lies outside the window, so that rings alone do not tell what becomes of it.
        self._is_unsure = False

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended and the reader has it all."""
        return self._pending is not None and self._pending.state is State.ENDED and not self._pending.events

    def drain(self) -> None:
        """End soon; the caller wakes the tail."""
        self._is_draining = True

    async def aclose(self) -> None:
        """Leave the hub; for a response that never iterates."""
        on_close, self.on_close = self.on_close, None
        if on_close:
            on_close()

    async def frames(self) -> AsyncIterator[bytes]:
        """Blocks of SSE, one write each, until the stream ends, the age is reached or the server drains."""
        try:
            deadline = monotonic() + self._pace.max_age * random.uniform(0.8, 1.0)
            sent_at: float | None = None
            if self._start.announce_position:
                yield self._position()
                sent_at = monotonic()
            while True:
                seen = self._tail.version
                block = await self._take()
                if not block and not self._is_ended:
                    block = self._idle(sent_at)
                if block:
                    yield block
                    sent_at = monotonic()
                if self._is_ended:
                    return
                # Also between two blocks: a stream that never falls silent would outlast every drain.
                if self._is_draining or monotonic() >= deadline:
                    yield retry_frame(random.randint(*_DRAIN_RETRY_MS) if self._is_draining else _AGED_RETRY_MS)
                    return
                if not block:
                    await self._wait(seen, min(deadline, (sent_at or 0) + self._pace.heartbeat))
        finally:
            await self.aclose()

    def _idle(self, sent_at: float | None) -> bytes:
        """What to send where there is no event: a first position, or a heartbeat that is due."""
        if sent_at is None:
            return self._position()
        if monotonic() - sent_at < self._pace.heartbeat:
            return b""
        return HEARTBEAT_EVENT if self._start.heartbeat_events else HEARTBEAT_COMMENT

    async def _wait(self, seen: int, until: float) -> None:
        """Wait until the tail changes or `until`; not so long where a ring would not tell."""
        pause = max(until - monotonic(), 0)
        await self._tail.changed_since(seen, timeout_seconds=min(pause, _UNSURE_SECONDS) if self._is_unsure else pause)

    async def _take(self) -> bytes:
        """Everything behind the cursor that can be had now, as one block; empty if there is nothing."""
        if self._pending is None:
            found = self._tail.window.after(self._cursor)
            if found is not None:
                frames, self._cursor = found
                self._is_unsure = False
                if frames or not self._tail.is_behind:
                    self._is_ended = self._tail.window.is_ended
                    return self._join(frames)
        try:
            verdict = self._pending or await self._tail.look(self._cursor)
        except LogUnavailable:
            self._is_unsure = True
            return b""
        self._pending = None
        return await self._obey(verdict)

    async def _obey(self, verdict: Verdict) -> bytes:
        told = self._told(verdict)
        if verdict.events:
            self._cursor = verdict.events[-1].id
        elif verdict.gap and verdict.gap.resumed_at:
            self._cursor = verdict.gap.resumed_at.before()
        self._is_ended = verdict.state is State.ENDED
        self._is_unsure = verdict.state in {State.LOST, State.GONE} or (
            verdict.state is State.WAIT and self._tail.window.after(self._cursor) is None
        )
        if verdict.state not in {State.LOST, State.GONE}:
            self._lost_since = None
            return told + self._join([event_frame(event) for event in verdict.events])
        return self._lose(verdict)

    def _told(self, verdict: Verdict) -> bytes:
        """What has no id: the attempt, and the gap with the position behind it."""
        told = attempt_frame(verdict.attempt) if verdict.attempt else b""
        if verdict.gap is None or verdict.gap.resumed_at is None:
            return told
        return told + self._gap(verdict) + self._frame(position_frame(verdict.gap.resumed_at.before()))

    def _lose(self, verdict: Verdict) -> bytes:
        """Nothing is certain before one lease has passed: a living writer writes everything back sooner."""
        now = monotonic()
        if self._lost_since is None:
            self._lost_since = now
        if now - self._lost_since < self._pace.lease:
            return b""
        told = b"" if self._told_gap_at == self._cursor else self._gap(verdict)
        self._told_gap_at = self._cursor
        self._is_ended = verdict.state is State.GONE
        if verdict.rewind is not None:
            self._cursor = verdict.rewind
            self._lost_since = None
            told += self._position()
        return told

    def _gap(self, verdict: Verdict) -> bytes:
        gap = verdict.gap
        if gap is None:
            return b""
        return gap_frame(self._tail.stream, requested=gap.requested, resumed_at=gap.resumed_at, missed=gap.missed)

    def _position(self) -> bytes:
        return self._frame(position_frame(self._cursor))

    def _frame(self, frame: bytes) -> bytes:
        return with_prefix(frame, self._start.id_prefix) if self._start.id_prefix else frame

    def _join(self, frames: list[bytes]) -> bytes:
        if self._start.id_prefix:
            frames = [with_prefix(frame, self._start.id_prefix) for frame in frames]
        return b"".join(frames)


async def first_cursor(tail: Tail, start: Start, *, starts_at_end: bool) -> EventId:
    """The cursor a subscriber begins with. Raises `LogUnavailable`."""
    if start.cursor is not None:
        return start.cursor
    at_end = start.at == "latest" or (start.at is None and start.last is None and starts_at_end)
    if not at_end and start.last is None:
        return ORIGIN
    last = await tail.last_id()
    if start.last is None or last == ORIGIN:
        return last
    if last.sequence >= start.last:
        return EventId(last.generation, last.sequence - start.last)
    return EventId(last.generation, 0).before()
