"""One subscriber: the strands it follows, served as far as its outlet lets it, and its times.

Theory of operation
-------------------
1. `serve` takes what lies behind a strand's cursor in one block, writes it, and goes on until the strand must rest,
   look or wait for the outlet. It never waits itself, so a thousand subscribers are served in one loop without an
   asyncio task each. Replay, live and slow reader are this one loop.
2. A blocked subscriber is in nobody's way: none of its strands rests, so no tail sees it. What it misses is in the
   windows when it comes back, or in the logs. Then the strand after the last one served is the first.
3. Several strands share the outlet, the age and the heartbeat. Whatever is written of one names the cursors of all,
   which are what the reader has been sent; so there is no order between streams to keep, and none to lose.
4. What a filter leaves out moves a cursor, and the reader is to know: `position` tells it, not for each event, but when
   nothing else has told it for a while, and at the end.
5. A strand that ends is left at once; the subscription ends with the last one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Final, Protocol

from server.fanout.frames import HEARTBEAT_COMMENT, HEARTBEAT_EVENT, retry_frame
from server.fanout.looks import Look
from server.fanout.outlet import Outlet, Pull
from server.fanout.start import Manner, Pace
from server.fanout.strand import Strand

_log = logging.getLogger(__name__)

#: After its age a reader comes back at once; after a drain it must not find all the others at the next replica.
_AGED_RETRY_MS: Final = 500
_DRAIN_RETRY_MS: Final = (1000, 3000)
#: Between looks while Redis is away, or while it is not sure yet that something is lost.
_UNSURE_SECONDS: Final = 1.0
#: Heartbeats are up to so much early, so that those who got the same event do not all get one in the same moment.
_HEARTBEAT_SPREAD: Final = 0.2
#: A filtered reader whose connection breaks reads so much of what was left out again. Told more often, it would cost as
#: much as the events that it does not want.
_PASSED_OVER_SECONDS: Final = 2.0
#: A blocked reader is looked at so many times before it is given up, to see whether it reads at all.
_STALL_CHECKS: Final = 4
_NEVER: Final = float("inf")


class Keeper(Protocol):
    """Who keeps the subscription; told once that it is over."""

    def closed(self, subscription: Subscription) -> None: ...


class Subscription:
    """A subscriber from its first look to its end.

    Attach an outlet or iterate `frames`, once. `close` may be called at any time, and again.
    """

    __slots__ = (
        "_blocked_since",
        "_deadline",
        "_is_announced",
        "_is_draining",
        "_is_starting",
        "_keeper",
        "_manner",
        "_open",
        "_pace",
        "_passed_over_since",
        "_turn",
        "_unsent_bytes",
        "due_at",
        "is_composite",
        "outlet",
        "sent_at",
        "strands",
        "types",
    )

    def __init__(self, strands: Sequence[Strand], manner: Manner, *, pace: Pace, keeper: Keeper | None = None) -> None:
        #: In the order in which they were asked for; those that have ended included.
        self.strands = strands
        self.types = manner.types
        self.is_composite = manner.is_composite
        self._manner = manner
        self._pace = pace
        self._keeper = keeper
        #: See `server.fanout.strand.Reader`. None before the subscription is attached, and again when it is over.
        self.outlet: Outlet | None = None
        #: When the hub's clock has to call `on_time`, by the monotonic clock.
        self.due_at = _NEVER
        self.sent_at: float | None = None
        self._deadline = _NEVER
        self._blocked_since: float | None = None
        self._unsent_bytes = 0
        #: How many strands have not ended.
        self._open = len(strands)
        #: Which strand is served first when the outlet takes more.
        self._turn = 0
        self._is_announced = not manner.announce_position
        self._is_starting = False
        self._is_draining = False
        #: Since when a filter has left out events that the reader's last id does not cover.
        self._passed_over_since: float | None = None
        for strand in strands:
            strand.belong_to(self)

    @property
    def is_over(self) -> bool:
        """Whether every stream has ended and the reader has it all. To be asked before `attach`."""
        return all(strand.is_over for strand in self.strands)

    @property
    def is_ended(self) -> bool:
        """Whether every stream has ended, and the reader was sent that."""
        return not self._open

    @property
    def is_losing(self) -> bool:
        """Whether it may have to tell a loss that is not certain yet."""
        return any(strand.is_losing for strand in self.strands)

    @property
    def may_have_more(self) -> bool:
        """Whether more may be stored than the reader was sent: there is, or nobody has looked yet."""
        return any(strand.may_have_more for strand in self.strands)

    @property
    def looks(self) -> list[asyncio.Task[Look]]:
        """The looks under way. When one is done, its strand has been served with what it found."""
        return [strand.look for strand in self.strands if strand.look is not None]

    @property
    def cursor(self) -> str:
        """Where the reader stands: what a later request has to bring to go on from there."""
        if self.is_composite:
            return b",".join([strand.place for strand in self.strands]).decode()
        return str(self.strands[0].cursor)

    def attach(self, outlet: Outlet) -> None:
        """Write to the outlet from now on, until its `finish`."""
        self.outlet = outlet
        for strand in self.strands:
            strand.attached()
        self._deadline = monotonic() + self._pace.max_age * random.uniform(0.8, 1.0)
        self._is_starting = len(self.strands) > 1
        self.advance()
        self._is_starting = False
        if self.sent_at is None:
            self.advance()  # each had its turn, and none had an event

    def resume(self) -> None:
        """The outlet can take another block."""
        if self._blocked_since is not None:
            self._blocked_since = None
            self.advance()

    def drain(self) -> None:
        """End as soon as the outlet lets it, with what is there and a time to come back."""
        self._is_draining = True
        for strand in self.strands:
            strand.give_up_look()
        self.advance()

    def cut(self) -> None:
        """Leave the reader in the middle: it has not taken what would have ended its response."""
        outlet = self.outlet
        if outlet:
            outlet.abort()
        self.close()

    def close(self) -> None:
        """Leave: the reader has gone, or nobody comes to read."""
        self.outlet = None
        self.due_at = _NEVER
        for strand in self.strands:
            strand.leave()
        keeper, self._keeper = self._keeper, None
        if keeper:
            keeper.closed(self)

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
        """Serve every strand that can be served now."""
        try:
            self._serve_all()
        except Exception:  # noqa: BLE001 - the boundary of one subscriber: it comes back, others are not touched
            self.fail()

    def on_time(self, now: float) -> None:
        """`due_at` has come."""
        try:
            if self._blocked_since is not None:
                self._look_at_stall(now)
            else:
                self.due_at = _NEVER  # each strand that comes to rest says again when
                self._serve_all()
        except Exception:  # noqa: BLE001 - the boundary of one subscriber
            self.fail()

    # What its strands tell: see `server.fanout.strand.Reader`.

    def serve(self, strand: Strand) -> None:
        try:
            self._serve(strand)
        except Exception:  # noqa: BLE001 - the boundary of one subscriber
            self.fail()

    def look_failed(self, strand: Strand) -> None:
        """Whatever is due is written. To look again at once would ask a Redis that is away without a pause."""
        if self._blocked_since is None:
            self._settle(strand, b"")
        if self.outlet is not None and self._blocked_since is None:
            self._rest(strand)

    def fail(self) -> None:
        _log.exception("A subscription failed; its reader is asked to come back")
        try:
            self._end()
        except Exception:  # noqa: BLE001 - what broke may be the outlet itself
            _log.exception("The outlet of a failed subscription failed too")
            self.close()

    def block(self, now: float) -> None:
        for strand in self.strands:
            strand.wake()
        self._blocked_since = now
        self._unsent_bytes = self.outlet.unsent_bytes if self.outlet else 0
        self.due_at = now + self._pace.stall / _STALL_CHECKS

    def ended(self, strand: Strand) -> None:
        strand.leave()
        self._open -= 1
        if not self._open:
            self._end()

    def others(self, strand: Strand) -> bytes:
        return b"".join([b"," + each.place for each in self.strands if each is not strand])

    def passed_over(self, *, is_some_shown: bool, is_to_the_end: bool) -> None:
        if is_to_the_end:
            self._passed_over_since = None
        elif is_some_shown or self._passed_over_since is None:
            self._passed_over_since = monotonic()
            self.due_at = min(self.due_at, self._position_at())

    def _serve_all(self) -> None:
        if len(self.strands) == 1:
            self._serve(self.strands[0])
            return
        count, first = len(self.strands), self._turn
        for place in range(first, first + count):
            if self.outlet is None or self._blocked_since is not None:
                return
            self._turn = (place + 1) % count
            self._serve(self.strands[place % count])

    def _serve(self, strand: Strand) -> None:
        while self.outlet is not None and self._blocked_since is None and not strand.is_busy:
            if not self._is_announced:
                self._is_announced = True
                self._write(self._position(strand))
                continue
            body = strand.deliverable()
            if body is None:
                if self._is_draining:
                    self._settle(strand, b"")
                    return
                strand.begin_look()
            elif not self._settle(strand, body) and strand.is_unchanged:
                self._rest(strand)
                return

    def _settle(self, strand: Strand, body: bytes) -> bool:
        """Write what there is, or what is due where there is no event; False if nothing is."""
        if not body and not strand.is_ended:
            body = self._idle(strand)
        if body:
            self._write(body)
        if strand.is_ended:
            self.ended(strand)
        # Also between two blocks: a stream that never falls silent would outlast every drain.
        elif self._is_draining or monotonic() >= self._deadline:
            self._say_goodbye(strand)
        return bool(body) or self.outlet is None

    def _say_goodbye(self, strand: Strand) -> None:
        if self.sent_at is None or self._passed_over_since is not None:
            self._write(self._position(strand))
        self._write(retry_frame(random.randint(*_DRAIN_RETRY_MS) if self._is_draining else _AGED_RETRY_MS))
        self._end()

    def _write(self, body: bytes) -> None:
        if self.outlet is not None:
            self.sent_at = monotonic()
            if not self.outlet.write(body):
                self.block(self.sent_at)

    def _look_at_stall(self, now: float) -> None:
        """A reader that takes anything is slow, which is its right; one that takes nothing is given up."""
        outlet = self.outlet
        if outlet is None or self._blocked_since is None:
            return
        if outlet.unsent_bytes < self._unsent_bytes:
            self._blocked_since = now
            self._unsent_bytes = outlet.unsent_bytes
        elif now - self._blocked_since >= self._pace.stall:
            names = ", ".join(strand.stream for strand in self.strands)
            _log.info("A reader of %r took nothing for %g s and is cut off", names, self._pace.stall)
            self.cut()
            return
        self.due_at = now + self._pace.stall / _STALL_CHECKS

    def _rest(self, strand: Strand) -> None:
        now = monotonic()
        retry_at = now + _UNSURE_SECONDS if strand.is_unsure else _NEVER
        due_at = min(self._deadline, retry_at, self._heartbeat_at(), self._position_at())
        self.due_at = due_at if len(self.strands) == 1 else min(due_at, self.due_at)
        strand.rest()

    def _heartbeat_at(self) -> float:
        early = random.uniform(0, _HEARTBEAT_SPREAD)
        return (self.sent_at or 0.0) + self._pace.heartbeat * (1 - early)

    def _position_at(self) -> float:
        """When the reader has to be told what a filter left out."""
        since = self._passed_over_since
        return _NEVER if since is None else since + min(_PASSED_OVER_SECONDS, self._pace.heartbeat / 2)

    def _end(self) -> None:
        outlet, self.outlet = self.outlet, None
        if outlet:
            outlet.finish()
        self.close()

    def _idle(self, strand: Strand) -> bytes:
        """What to send where there is no event: a first position, `stalled`, or a heartbeat that is due."""
        now = monotonic()
        if self.sent_at is None:
            # Of the first stream asked for, whichever look was the first to find nothing.
            return b"" if self._is_starting else self._position(self.strands[0])
        if silence := strand.silence():
            return silence
        if now >= self._position_at():
            return self._position(strand)
        if now < self.sent_at + self._pace.heartbeat * (1 - _HEARTBEAT_SPREAD):
            return b""
        return HEARTBEAT_EVENT if self._manner.heartbeat_events else HEARTBEAT_COMMENT

    def _position(self, strand: Strand) -> bytes:
        self._passed_over_since = None
        return strand.position()
