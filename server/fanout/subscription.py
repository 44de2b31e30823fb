"""One subscriber: from log pages to window to resting at its end, which is replay, live and slow reader in one.

Theory of operation
-------------------
A subscriber holds a cursor, and no event. It is always in one of four states:

    resting    it has all there is; its tail wakes it, and the hub's clock for a heartbeat, its age, a second look
    looking    the log is being read behind its cursor
    blocked    its outlet takes no more; `resume` continues
    over       ended, left or closed

1. `advance` takes what lies behind the cursor in one block, writes it, and goes on until it must rest, look or wait for
   its outlet. It never waits itself, so a thousand subscribers are served in one loop without an asyncio task each.
2. The tail's window is asked first. A cursor outside it looks in the log; so does one at the window's top while the
   tail is behind. What the log says is obeyed as `continuity` judged it.
3. A blocked subscriber is in nobody's way: it is not resting, so the tail does not see it. What it misses is in the
   window when it comes back, or in the log.
4. `version` is read before a look. If the tail has changed meanwhile, the subscriber tries again before it rests:
   otherwise the ring that came during the look would wake it never.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from time import monotonic
from typing import Final, Protocol

from server.fanout.continuity import State, Verdict
from server.fanout.frames import (
    HEARTBEAT_COMMENT,
    HEARTBEAT_EVENT,
    attempt_frame,
    gap_frame,
    position_frame,
    retry_frame,
    stalled_frame,
    with_prefix,
)
from server.fanout.life import Silence
from server.fanout.looks import Look
from server.fanout.outlet import Outlet, Pull
from server.fanout.start import Pace, Start
from server.fanout.tail import Tail
from server.fanout.window import Block
from server.streams.errors import LogUnavailable
from server.streams.ids import EventId

_log = logging.getLogger(__name__)

#: After its age a reader comes back at once; after a drain it must not find all the others at the next replica.
_AGED_RETRY_MS: Final = 500
_DRAIN_RETRY_MS: Final = (1000, 3000)
#: Between looks while Redis is away, or while it is not sure yet that something is lost.
_UNSURE_SECONDS: Final = 1.0
#: Heartbeats are up to so much early, so that those who got the same event do not all get one in the same moment.
_HEARTBEAT_SPREAD: Final = 0.2
#: A blocked reader is looked at so many times before it is given up, to see whether it reads at all.
_STALL_CHECKS: Final = 4
_NEVER: Final = float("inf")


class Home(Protocol):
    """Who keeps the subscription; told once that a reader takes it, if one does, and once that it is over."""

    def attached(self) -> None: ...

    def left(self, subscription: Subscription) -> None: ...


class Subscription:
    """A subscriber from its first look to its end.

    Attach an outlet or iterate `frames`, once. `close` may be called at any time, and again.
    """

    __slots__ = (
        "_blocked_since",
        "_deadline",
        "_first",
        "_home",
        "_is_announced",
        "_is_draining",
        "_is_ended",
        "_is_unsure",
        "_looking",
        "_lost_since",
        "_outlet",
        "_pace",
        "_retry_at",
        "_seen",
        "_sent_at",
        "_start",
        "_tail",
        "_told_gap_at",
        "_told_silence",
        "_unsent_bytes",
        "cursor",
        "due_at",
    )

    def __init__(
        self, tail: Tail, start: Start, *, cursor: EventId, first: Look | None, pace: Pace, home: Home | None = None
    ) -> None:
        """`first` is the look that decided whether there is anything to stream; used instead of a second one."""
        self._tail = tail
        self._start = start
        self.cursor = cursor
        self._first = first
        self._pace = pace
        self._home = home
        #: None before the subscription is attached, and again when it is over.
        self._outlet: Outlet | None = None
        #: When the hub's clock has to call `on_time`, by the monotonic clock.
        self.due_at = _NEVER
        self._deadline = _NEVER
        self._sent_at: float | None = None
        self._retry_at = _NEVER
        self._blocked_since: float | None = None
        self._unsent_bytes = 0
        self._looking: asyncio.Task[Look] | None = None
        self._seen = -1
        self._is_announced = not start.announce_position
        self._is_draining = False
        self._is_ended = False
        self._lost_since: float | None = None
        self._told_gap_at: EventId | None = None
        #: Why nobody writes, as the reader was last told.
        self._told_silence: Silence | None = None
        #: Whether the cursor lies outside the window, so that rings alone do not tell what becomes of it.
        self._is_unsure = False

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended and the reader has it all. To be asked before `attach`."""
        verdict = self._first.verdict if self._first else None
        return verdict is not None and verdict.state is State.ENDED and not verdict.events

    def attach(self, outlet: Outlet) -> None:
        """Write to the outlet from now on, until its `finish`."""
        self._outlet = outlet
        if self._home:
            self._home.attached()
        self._deadline = monotonic() + self._pace.max_age * random.uniform(0.8, 1.0)
        self.advance()

    def resume(self) -> None:
        """The outlet can take another block."""
        if self._blocked_since is not None:
            self._blocked_since = None
            self.advance()

    def drain(self) -> None:
        """End as soon as the outlet lets it, with what is there and a time to come back."""
        self._is_draining = True
        if self._looking is not None:
            # It may be long in coming, from a Redis that is away; whoever serves the reader next looks itself.
            self._looking.remove_done_callback(self._looked)
            self._looking = None
        self.advance()

    def cut(self) -> None:
        """Leave the reader in the middle: it has not taken what would have ended its response."""
        outlet = self._outlet
        if outlet:
            outlet.abort()
        self.close()

    def close(self) -> None:
        """Leave: the reader has gone, or nobody comes to read."""
        self._tail.resting.pop(self, None)
        self._outlet = None
        self.due_at = _NEVER
        home, self._home = self._home, None
        if home:
            home.left(self)

    async def frames(self) -> AsyncIterator[bytes]:
        """The same for who asks: blocks of SSE, one write each, until the end."""
        outlet = Pull()
        try:
            self.attach(outlet)
            while (block := await outlet.next()) is not None:
                yield block
                self.resume()
        finally:
            self.close()

    def advance(self) -> None:
        """Deliver what can be had now; then rest, look, or wait for the outlet."""
        try:
            self._advance()
        except Exception:  # noqa: BLE001 - the boundary of one subscriber: it comes back, others are not touched
            self.fail()

    def take(self, block: Block, now: float) -> None:
        """See `Resting`."""
        outlet = self._outlet
        if outlet is None:
            return
        self._sent_at = now
        if not outlet.write(self._accept(block)):
            self._block(now)
        if self._is_ended:
            self._end()

    @property
    def is_sure(self) -> bool:
        return not self._is_unsure and self._told_silence == self._tail.life.silence

    def fail(self) -> None:
        """See `Resting`."""
        _log.exception("A subscription failed; its reader is asked to come back")
        try:
            self._end()
        except Exception:  # noqa: BLE001 - what broke may be the outlet itself
            _log.exception("The outlet of a failed subscription failed too")
            self.close()

    def on_time(self, now: float) -> None:
        """`due_at` has come."""
        try:
            if self._blocked_since is not None:
                self._look_at_stall(now)
            else:
                self._advance()
        except Exception:  # noqa: BLE001 - the boundary of one subscriber
            self.fail()

    def _advance(self) -> None:
        while self._outlet is not None and self._blocked_since is None and self._looking is None:
            if not self._is_announced:
                self._is_announced = True
                self._write(self._position())
                continue
            if self._first is None:
                block = self._tail.block_after(self.cursor)
                if block is None or (self._tail.is_behind and not block.frames):
                    if self._is_draining:
                        self._settle(b"")
                        return
                    self._begin_look()
                    continue
                seen = self._tail.version
                body = self._accept(block)
            else:
                look, self._first = self._first, None
                seen = self._seen
                body = self._obey(look)
            if not self._settle(body) and seen == self._tail.version:
                self._rest()
                return

    def _begin_look(self) -> None:
        self._seen = self._tail.version
        found = self._tail.look(self.cursor)
        if isinstance(found, Look):
            self._first = found
            return
        self._tail.resting.pop(self, None)
        self._looking = found
        self.due_at = _NEVER
        found.add_done_callback(self._looked)

    def _accept(self, block: Block) -> bytes:
        self._is_unsure = False
        self.cursor = block.cursor
        self._is_ended = self._tail.window.is_ended and block.is_whole
        return self._join(block.frames) if self._start.id_prefix else block.body

    def _looked(self, done: asyncio.Task[Look]) -> None:
        self._looking = None
        if self._outlet is None:
            return
        try:
            self._first = done.result()
        except (LogUnavailable, asyncio.CancelledError):
            self._is_unsure = True
            self._settle(b"")
            self._rest_unless_blocked()
        except Exception:  # noqa: BLE001 - the same boundary
            self.fail()
        else:
            self.advance()

    def _rest_unless_blocked(self) -> None:
        """Whatever was due was written. To look again at once would ask a Redis that is away without a pause."""
        if self._outlet is not None and self._blocked_since is None:
            self._rest()

    def _settle(self, body: bytes) -> bool:
        """Write what there is, or what is due where there is no event; False if nothing is."""
        if not body and not self._is_ended:
            body = self._idle()
        if body:
            self._write(body)
        if self._is_ended:
            self._end()
        # Also between two blocks: a stream that never falls silent would outlast every drain.
        elif self._is_draining or monotonic() >= self._deadline:
            self._write(retry_frame(random.randint(*_DRAIN_RETRY_MS) if self._is_draining else _AGED_RETRY_MS))
            self._end()
        return bool(body) or self._outlet is None

    def _write(self, body: bytes) -> None:
        if self._outlet is not None:
            self._sent_at = monotonic()
            if not self._outlet.write(body):
                self._block(self._sent_at)

    def _block(self, now: float) -> None:
        self._tail.resting.pop(self, None)
        self._blocked_since = now
        self._unsent_bytes = self._outlet.unsent_bytes if self._outlet else 0
        self.due_at = now + self._pace.stall / _STALL_CHECKS

    def _look_at_stall(self, now: float) -> None:
        """A reader that takes anything is slow, which is its right; one that takes nothing is given up."""
        outlet = self._outlet
        if outlet is None or self._blocked_since is None:
            return
        if outlet.unsent_bytes < self._unsent_bytes:
            self._blocked_since = now
            self._unsent_bytes = outlet.unsent_bytes
        elif now - self._blocked_since >= self._pace.stall:
            _log.info("A reader of %r took nothing for %g s and is cut off", self._tail.stream, self._pace.stall)
            self.cut()
            return
        self.due_at = now + self._pace.stall / _STALL_CHECKS

    def _rest(self) -> None:
        now = monotonic()
        self._retry_at = now + _UNSURE_SECONDS if self._is_unsure else _NEVER
        heartbeat_at = self._heartbeat_at()
        self.due_at = min(self._deadline, self._retry_at, heartbeat_at)
        self._tail.resting[self] = None

    def _heartbeat_at(self) -> float:
        early = random.uniform(0, _HEARTBEAT_SPREAD)
        return (self._sent_at or 0.0) + self._pace.heartbeat * (1 - early)

    def _end(self) -> None:
        outlet, self._outlet = self._outlet, None
        if outlet:
            outlet.finish()
        self.close()

    def _idle(self) -> bytes:
        """What to send where there is no event: a first position, `stalled`, or a heartbeat that is due."""
        if self._sent_at is None:
            return self._position()
        # Behind everything that was written before: an event after it would say that all is well again.
        if self._told_silence != (silence := self._tail.life.silence):
            self._told_silence = silence
            if silence is not None:
                return stalled_frame(self._tail.stream, since_ms=silence.since_ms, pause=silence.pause)
        if monotonic() < self._sent_at + self._pace.heartbeat * (1 - _HEARTBEAT_SPREAD):
            return b""
        return HEARTBEAT_EVENT if self._start.heartbeat_events else HEARTBEAT_COMMENT

    def _obey(self, look: Look) -> bytes:
        verdict = look.verdict
        told = self._told(verdict)
        if verdict.events:
            self.cursor = verdict.events[-1].id
        elif verdict.gap and verdict.gap.resumed_at:
            self.cursor = verdict.gap.resumed_at.before()
        self._is_ended = verdict.state is State.ENDED
        self._is_unsure = verdict.state in {State.LOST, State.GONE} or (
            verdict.state is State.WAIT and self._tail.window.after(self.cursor) is None
        )
        if verdict.state in {State.LOST, State.GONE}:
            return self._lose(verdict)
        self._lost_since = None
        events = self._join(look.frames) if self._start.id_prefix else look.body
        return told + events if told else events

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
        told = b"" if self._told_gap_at == self.cursor else self._gap(verdict)
        self._told_gap_at = self.cursor
        self._is_ended = verdict.state is State.GONE
        if verdict.rewind is not None:
            self.cursor = verdict.rewind
            self._lost_since = None
            told += self._position()
        return told

    def _gap(self, verdict: Verdict) -> bytes:
        gap = verdict.gap
        if gap is None:
            return b""
        return gap_frame(self._tail.stream, requested=gap.requested, resumed_at=gap.resumed_at, missed=gap.missed)

    def _position(self) -> bytes:
        return self._frame(position_frame(self.cursor))

    def _frame(self, frame: bytes) -> bytes:
        return with_prefix(frame, self._start.id_prefix) if self._start.id_prefix else frame

    def _join(self, frames: list[bytes]) -> bytes:
        return b"".join([with_prefix(frame, self._start.id_prefix) for frame in frames])
