"""One stream as one subscription follows it: its cursor, and what may be told from there on.

Theory of operation
-------------------
A strand holds a cursor, and no event. It is always in one of four states:

    resting    it has all there is; its tail wakes it, and the subscription in its own time
    looking    the log is being read behind its cursor
    ready      neither: its subscription's outlet takes no more, or it is being served
    ended      its stream has ended for this reader

1. `deliverable` gives what lies behind the cursor as one block. It never waits: where the log has to be read, it says
   so, and `begin_look` has the subscription called when the answer is there.
2. The tail's window is asked first. A cursor outside it looks in the log; so does one at the window's top while the
   tail is behind. What the log says is obeyed as `continuity` judged it. A reader that has its past compacted (`past`)
   looks there instead, until it has it all.
3. `version` is read before a look. If the tail has changed meanwhile, the strand is served again before it rests:
   otherwise the ring that came during the look would wake it never.
4. The cursor is what the reader *has been sent*, also of what a filter left out. So whatever is sent of another stream
   of the same subscription may name it in its id, and a reader that comes back with that id loses and repeats nothing.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from server.fanout.continuity import State, Verdict
from server.fanout.framed import Framed, Types
from server.fanout.frames import attempt_frame, gap_frame, position_frame, stalled_frame
from server.fanout.life import Silence
from server.fanout.looks import Look
from server.fanout.outlet import Outlet
from server.fanout.past import Past
from server.fanout.tail import Tail
from server.fanout.window import Block
from server.streams.errors import LogUnavailable
from server.streams.ids import EventId


class Home(Protocol):
    """Who keeps the tail; told once that a reader takes it, if one does, and once that it is over."""

    def attached(self) -> None: ...

    def left(self) -> None: ...


class Reader(Protocol):
    """The subscription, as its strands see it."""

    #: None before a reader takes anything, and after the end.
    outlet: Outlet | None
    #: When the last block was written, by the monotonic clock.
    sent_at: float | None
    #: Which events the reader wants; None for all.
    types: Types | None
    #: Whether ids name their streams.
    is_composite: bool

    def serve(self, strand: Strand) -> None:
        """Deliver what can be had of the strand now."""
        ...

    def block(self, now: float) -> None:
        """The outlet takes no more for now."""
        ...

    def look_failed(self, strand: Strand) -> None: ...

    def ended(self, strand: Strand) -> None: ...

    def fail(self) -> None:
        """Log the exception that is being handled, and have the reader come back."""
        ...

    def others(self, strand: Strand) -> bytes:
        """The positions in all other streams, as they follow the strand's own in a composite id."""
        ...

    def passed_over(self, *, is_some_shown: bool, is_to_the_end: bool) -> None:
        """A filter has been at work: whether it let anything through, and whether the last event was among that."""
        ...


class Strand:
    """Made for one subscription, which is `reader` from before the first call on."""

    __slots__ = (
        "_first",
        "_home",
        "_is_at_end",
        "_is_plain",
        "_is_unsure",
        "_lease",
        "_looking",
        "_lost_since",
        "_past",
        "_place",
        "_placed",
        "_reader",
        "_seen",
        "_told_gap_at",
        "_told_silence",
        "cursor",
        "is_ended",
        "tail",
    )

    def __init__(
        self,
        tail: Tail,
        *,
        cursor: EventId,
        first: Look | None,
        lease_seconds: float,
        home: Home | None = None,
        past: Past | None = None,
    ) -> None:
        """`first` is the look that decided whether there is anything to stream; used instead of a second one."""
        self.tail = tail
        #: Everything up to here has been sent, or was left out by the reader's filter.
        self.cursor = cursor
        self.is_ended = False
        self._first = first
        #: Where a compacting reader looks, and not in the window, until it has what was there when it came.
        self._past = past
        self._lease = lease_seconds
        self._home = home
        self._reader: Reader
        #: Whether what was last found behind the cursor reached as far as there was anything. Not while it looks.
        self._is_at_end = False
        self._is_plain = True
        self._looking: asyncio.Task[Look] | None = None
        self._seen = -1
        self._lost_since: float | None = None
        self._told_gap_at: EventId | None = None
        #: Why nobody writes, as the reader was last told.
        self._told_silence: Silence | None = None
        #: Whether the cursor lies outside the window, so that rings alone do not tell what becomes of it.
        self._is_unsure = False
        self._placed: EventId | None = None
        self._place = b""

    def belong_to(self, reader: Reader) -> None:
        self._reader = reader
        self._is_plain = reader.types is None and not reader.is_composite

    @property
    def stream(self) -> str:
        return self.tail.stream

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended and the reader has it all, or it was deleted: that is told by an event to those
        who follow others besides. To be asked before anything is delivered.
        """
        verdict = self._first.verdict if self._first else None
        return verdict is not None and verdict.state is State.ENDED and (verdict.is_deleted or not verdict.events)

    @property
    def is_gone(self) -> bool:
        """Whether there is no such task (any more). To be asked before anything is delivered."""
        return self._first is not None and self._first.verdict.state is State.GONE

    @property
    def is_busy(self) -> bool:
        """Whether it cannot be served now: it has ended, or looks."""
        return self.is_ended or self._looking is not None

    @property
    def is_unsure(self) -> bool:
        """Whether it has to be looked at again without being woken."""
        return self._is_unsure

    @property
    def is_losing(self) -> bool:
        """Whether the log lacks what the reader has, and it is not certain yet that it is lost."""
        return self._lost_since is not None

    @property
    def may_have_more(self) -> bool:
        """Whether more may be stored behind the cursor: there is, nobody has looked, or what is lost is not certain."""
        if self._first is not None:
            verdict = self._first.verdict
            return bool(verdict.events) or verdict.state in {State.MORE, State.LOST, State.GONE}
        return not self.is_ended and (self.is_losing or not self._is_at_end)

    @property
    def look(self) -> asyncio.Task[Look] | None:
        """The look under way, if one is; when it is done the strand has been served."""
        return self._looking

    @property
    def is_unchanged(self) -> bool:
        """Whether the tail is as it was when something was last looked for behind the cursor."""
        return self._seen == self.tail.version

    @property
    def place(self) -> bytes:
        """The position in this stream, as a part of a composite id."""
        if self._placed is not self.cursor:
            self._placed = self.cursor
            self._place = f"{self.stream}:{self.cursor}".encode()
        return self._place

    # What its tail and `Delivery` ask of it: see `Resting`.

    @property
    def is_sure(self) -> bool:
        return not self._is_unsure and self._told_silence == self.tail.life.silence

    def take(self, block: Block, now: float) -> None:
        """See `Resting`. The hot path: one call for each event of each reader that is up to date."""
        reader = self._reader
        outlet = reader.outlet
        if outlet is None:
            return
        body = self._accept(block)
        if body:
            reader.sent_at = now
            if not outlet.write(body):
                reader.block(now)
        if self.is_ended:
            reader.ended(self)

    def advance(self) -> None:
        self._reader.serve(self)

    def fail(self) -> None:
        self._reader.fail()

    # What its subscription asks of it.

    def attached(self) -> None:
        """A reader takes it."""
        if self._home:
            self._home.attached()

    def rest(self) -> None:
        """Wait for the tail."""
        self.tail.resting[self] = None

    def wake(self) -> None:
        """Wait for it no more."""
        self.tail.resting.pop(self, None)

    def leave(self) -> None:
        """Follow the stream no more."""
        self.wake()
        home, self._home = self._home, None
        if home:
            home.left()

    def give_up_look(self) -> None:
        """It may be long in coming, from a Redis that is away; whoever serves the reader next looks itself."""
        if self._looking is not None:
            self._looking.remove_done_callback(self._looked)
            self._looking = None

    def deliverable(self) -> bytes | None:
        """What lies behind the cursor, which moves; empty if nothing does. None if the log has to be read for it."""
        if self._first is not None:
            look, self._first = self._first, None
            return self._obey(look)
        if self._past is not None:
            return None
        block = self.tail.block_after(self.cursor)
        if block is None or (self.tail.is_behind and not block.frames):
            return None
        self._seen = self.tail.version
        body = self._accept(block)
        if self.tail.is_behind:
            self._is_at_end = False
        return body

    def begin_look(self) -> None:
        """Read the log behind the cursor. The subscription is called when that is done, if it takes any time."""
        self._seen = self.tail.version
        found = (self._past or self.tail).look(self.cursor)
        if isinstance(found, Look):
            self._first = found
            return
        self.wake()
        self._is_at_end = False
        self._looking = found
        found.add_done_callback(self._looked)

    def silence(self) -> bytes:
        """`stalled`, if that is to be told and was not."""
        # Behind everything that was written before: an event after it would say that all is well again.
        if self._told_silence == (silence := self.tail.life.silence):
            return b""
        self._told_silence = silence
        if silence is None:
            return b""
        return stalled_frame(self.stream, since_ms=silence.since_ms, pause=silence.pause)

    def position(self) -> bytes:
        """`position` at the cursor."""
        return self._position_at(self.cursor)

    def _looked(self, done: asyncio.Task[Look]) -> None:
        self._looking = None
        if self._reader.outlet is None:
            return
        try:
            self._first = done.result()
        except (LogUnavailable, asyncio.CancelledError):
            self._is_unsure = True
            self._reader.look_failed(self)
        except Exception:  # noqa: BLE001 - the boundary of one subscriber
            self._reader.fail()
        else:
            self._reader.serve(self)

    def _accept(self, block: Block) -> bytes:
        self._is_unsure = False
        if not block.is_whole:
            self._seen = -1  # the window holds more, also where nothing of this is for the reader
        self._is_at_end = block.is_whole
        self.cursor = block.cursor
        self.is_ended = self.tail.window.is_ended and block.is_whole
        return block.body if self._is_plain else self._for_reader(block)

    def _for_reader(self, framed: Framed) -> bytes:
        """The frames that the reader wants, with the ids that it gets."""
        reader = self._reader
        if not framed.frames:
            return b""
        picked = framed.picked(reader.types, ends=self.is_ended)
        if reader.types is not None:
            reader.passed_over(is_some_shown=bool(picked.frames), is_to_the_end=picked.is_to_the_end)
        return picked.named(self.stream.encode(), reader.others(self)) if reader.is_composite else picked.body

    def _obey(self, look: Look) -> bytes:
        verdict = look.verdict
        told = self._told(verdict)
        if verdict.events:
            self.cursor = verdict.events[-1].id
        elif verdict.gap and verdict.gap.resumed_at:
            self.cursor = verdict.gap.resumed_at.before()
        self._is_at_end = look.is_at_end
        if self._past is not None and self._past.is_over(self.cursor, verdict.state):
            self._past = None
        self.is_ended = verdict.state is State.ENDED
        self._is_unsure = verdict.state in {State.LOST, State.GONE} or (
            verdict.state is State.WAIT and (self._past is not None or self.tail.window.after(self.cursor) is None)
        )
        if verdict.state in {State.LOST, State.GONE}:
            return self._lose(verdict)
        self._lost_since = None
        if verdict.state is State.MORE:
            self._seen = -1  # the log holds more, also where nothing of this is for the reader
        events = look.body if self._is_plain else self._for_reader(look)
        return told + events if told else events

    def _told(self, verdict: Verdict) -> bytes:
        """What has no id: the attempt, and the gap with the position behind it."""
        told = attempt_frame(verdict.attempt) if verdict.attempt else b""
        if verdict.gap is None or verdict.gap.resumed_at is None:
            return told
        return told + self._gap(verdict) + self._position_at(verdict.gap.resumed_at.before())

    def _lose(self, verdict: Verdict) -> bytes:
        """Nothing is certain before one lease has passed: a living writer writes everything back sooner."""
        now = monotonic()
        if self._lost_since is None:
            self._lost_since = now
        if now - self._lost_since < self._lease:
            return b""
        told = b"" if self._told_gap_at == self.cursor else self._gap(verdict)
        self._told_gap_at = self.cursor
        self.is_ended = verdict.state is State.GONE
        if verdict.rewind is not None:
            self.cursor = verdict.rewind
            self._lost_since = self._past = None
            self._is_at_end = False  # nobody has looked there
            told += self.position()
        return told

    def _gap(self, verdict: Verdict) -> bytes:
        gap = verdict.gap
        if gap is None:
            return b""
        return gap_frame(self.stream, requested=gap.requested, resumed_at=gap.resumed_at, missed=gap.missed)

    def _position_at(self, cursor: EventId) -> bytes:
        if not self._reader.is_composite:
            return position_frame(str(cursor))
        return position_frame(f"{self.stream}:{cursor}{self._reader.others(self).decode()}")
