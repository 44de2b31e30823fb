"""The tail of one watched stream in this process: its window, how that follows the log, and who rests at its end.

Theory of operation
-------------------
1. A ring whose events follow the window's top extends the window. Any other ring (a hole, a new attempt, no contents)
   only says that the tail has *fallen behind*: the log has to be looked at.
2. Looks are made by subscribers, from their own cursors, and shared: whoever asks for the cursor another one is
   reading waits for the same answer. So there is no second reader, and no seam between replay and live.
3. What a look finds extends the window if it continues it, and starts it if there is none, or if it reached the end
   of the log. So the window follows the first who replays, and holds what those who come after it will ask for.
4. Rings that come while the tail is behind are held. "Behind" ends with a look that reached the log's end, as it was
   when it was read; what was held then goes on from there, or shows a new hole. A ring that could not be held counts
   as a fall, and a look begun before the last fall proves nothing.

       subscriber            tail                       Redis
       look begins ────────► falls = 7 ───────────────► read … 41
                             ring 43: held            ◄─ append 42 (ring lost), 43
                   ◄──────── read says 41; 43 does not follow 41: still behind, so look again

5. A log whose last id is below the window's top went back. What lies above is dropped, unless a ring came during the
   read: then the read may simply be older than the ring.
6. A page that lies wholly before the log's end stays true for a while: those who replay the same stretch a moment
   later take it from memory. Pages end at multiples of the page size, so that replays from any cursor come to share.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, Protocol

from server.fanout.bell import parse_ring
from server.fanout.continuity import Gap, State, Verdict, follows, judge_log, judge_standing
from server.fanout.frames import event_frame
from server.fanout.life import Life, Silence
from server.fanout.looks import Look, Looks
from server.fanout.standing import Standing
from server.fanout.window import Block, Window
from server.streams.calls import Snapshot
from server.streams.event import Event
from server.streams.ids import ORIGIN, EventId
from server.streams.log import Log
from server.streams.names import task_of_stream
from server.streams.records import Status, StreamRecord
from server.streams.seek import Search
from server.streams.sign import Sign

#: Events per read: few enough that reading a page does not hold up Redis or the loop for more than some milliseconds.
_PAGE_EVENTS: Final = 256
#: Rings held while a look is under way: some milliseconds of the fastest writer.
_MAX_HELD: Final = 2000
#: Blocks of one version of the window that are kept for other subscribers with the same cursor.
_MAX_BLOCKS: Final = 32


class Resting(Protocol):
    """A subscriber that has all there is and waits, as its tail and those who serve the tail see it."""

    #: Everything up to here has been delivered.
    cursor: EventId

    @property
    def is_sure(self) -> bool:
        """Whether the window tells all that becomes of the cursor."""
        ...

    def take(self, block: Block, now: float) -> None:
        """Deliver a block that begins at the cursor and reaches the top of the window."""
        ...

    def advance(self) -> None:
        """Deliver what can be had now, by whatever way."""
        ...

    def fail(self) -> None:
        """Log the exception that is being handled, and have the reader come back."""
        ...


class Tail:
    """One stream in one view: the standing events of a task, or everything in the log."""

    def __init__(
        self,
        log: Log,
        stream: str,
        *,
        all_attempts: bool,
        window_bytes: int,
        lease_seconds: float,
        on_wake: Callable[[Tail], None],
    ) -> None:
        """`on_wake` has the resting subscribers served, in a later turn of the loop: see `Delivery`."""
        self._log = log
        self.stream = stream
        self.is_task = task_of_stream(stream) is not None
        #: Set by looks, for a task in its standing view.
        self.standing = Standing(())
        self._is_standing_view = self.is_task and not all_attempts
        self.window = Window(window_bytes)
        #: Whether the task's writer is missed; see `LifeWatch`.
        self.life = Life(lease_seconds)
        #: Whether the task is cancelled once nobody follows it; set by looks.
        self.ends_unfollowed = False
        #: Whether the log has to be looked at to know more than the window.
        self.is_behind = True
        #: Counts everything a subscriber may want to look at.
        self.version = 0
        #: Subscribers that have all there is, and wait.
        self.resting: dict[Resting, None] = {}
        #: Set by `Delivery` while the tail is in its line.
        self.is_woken = False
        #: Whether a ring has extended the window since the last sweep: then the next ring will tell of a hole, or, if
        #: none comes, the next sweep.
        self.has_rung = False
        self._on_wake = on_wake
        self._rings = 0
        self._falls = 0
        self._held: list[Event] = []
        self._looks = Looks(self._look, name=f"look at {stream}")
        self._blocks: dict[EventId, Block] = {}
        self._blocks_version = -1

    @property
    def is_current(self) -> bool:
        """Whether the window tells all there is, as far as this process has heard."""
        return not self.is_behind and self.window.top is not None

    @property
    def forgotten(self) -> int:
        """Rises whenever what was read of the log before may no longer be true."""
        return self._looks.forgotten

    def ring(self, payload: bytes) -> None:
        """Take what a ring brings, or fall behind."""
        self._rings += 1
        events = parse_ring(payload)
        if events is None:
            self.fall_behind()
        elif self.is_behind:
            self._hold(events)
        else:
            top = self.window.top
            self._extend_live(events)
            self.has_rung = self.has_rung or self.window.top != top
            self.wake()

    def fall_behind(self, *, forgets: bool = True) -> None:
        """Have the log looked at, and wake everybody to do it. `forgets`: what was read before may not be true."""
        self.is_behind = True
        self._falls += 1
        self._held.clear()
        if forgets:
            self._looks.forget()
        self.wake()

    def wake(self) -> None:
        """Let every resting subscriber look again."""
        self.version += 1
        if self.resting:
            self._on_wake(self)

    def block_after(self, cursor: EventId) -> Block | None:
        """What the window holds behind the cursor, up to the size of one write; None if it cannot tell."""
        if self._blocks_version != self.window.version or len(self._blocks) >= _MAX_BLOCKS:
            self._blocks.clear()
            self._blocks_version = self.window.version
        block = self._blocks.get(cursor)
        if block is None:
            block = self.window.after(cursor)
            if block is not None and block.frames:
                self._blocks[cursor] = block
        return block

    def look(self, cursor: EventId) -> Look | asyncio.Task[Look]:
        """What the log holds behind the cursor, judged; a task if it has to be read. That raises `LogUnavailable`."""
        return self._looks.at(cursor)

    async def looked(self, cursor: EventId) -> Look:
        """The same, waited for. Raises `LogUnavailable`."""
        found = self._looks.at(cursor)
        # One subscriber that leaves must not take the look from the others.
        return found if isinstance(found, Look) else await asyncio.shield(found)

    async def last_id(self) -> EventId:
        """The log's last id, `ORIGIN` if there is none. Raises `LogUnavailable`."""
        snapshot = await self._log.read(self.stream)
        return snapshot.last_id or ORIGIN

    async def newest(self, after: EventId, *, before: EventId | None, limit: int) -> Snapshot:
        """The newest events of the log between two ids, newest first, with their marks. Raises `LogUnavailable`."""
        last = before.before() if before else None
        return await self._log.read(
            self.stream, first=after.next(), last=last, limit=limit, backwards=True, with_marks=True
        )

    async def find(self, search: Search) -> EventId:
        """The cursor that a search in the log finds. Raises `LogUnavailable`."""
        return await self._log.find(self.stream, search)

    def expire(self) -> None:
        """Free what was kept for those who might have come, and did not."""
        self._looks.expire()
        self._blocks.clear()

    def _extend_live(self, events: tuple[Event, ...] | list[Event]) -> None:
        for event in events:
            top = self.window.top
            if top is not None and event.id <= top:
                continue  # late or repeated: repair writes the same ids again
            if top is None or not self._continues_live(top, event):
                self.fall_behind()
                return
            self.window.append(event.id, event_frame(event), ends=event.is_terminal)

    def _hold(self, events: tuple[Event, ...]) -> None:
        self._held += events
        if len(self._held) > _MAX_HELD:
            self.fall_behind(forgets=False)  # nothing in the log has changed, there is only much of it
        elif not self._looks.is_looking:
            self.wake()

    def _catch_up(self) -> None:
        """The window has reached the end that the log had when it was read; rings have brought what came since."""
        held, self._held = self._held, []
        self.is_behind = False
        self._extend_live(held)

    async def _look(self, cursor: EventId) -> Look:
        rings, falls = self._rings, self._falls
        snapshot = await self.read(cursor)
        top = self.window.top
        if snapshot.record:
            self._note_life(snapshot.record, snapshot.now_ms)
            self.ends_unfollowed = snapshot.record.ends_unfollowed
        verdict = self.judge(cursor, snapshot)
        if verdict.state is State.GONE:
            return Look(verdict)
        look = Look(verdict, frames=[event_frame(event) for event in verdict.events])
        if self._rings == rings:
            self._drop_what_went_back(snapshot)
        if _is_short(snapshot):
            self.window.clear()  # nobody may rest at the end of a log that lacks what its record names
        elif verdict.state is not State.LOST:
            self._extend(cursor, look, snapshot)
        if verdict.state is State.ENDED and self.window.top == look.reached(cursor):
            self.window.is_ended = True  # also where the look found the end and no event before it
        if self._falls == falls and self.window.top == (snapshot.last_id or ORIGIN):
            self._catch_up()
        if self.window.top != top or (self.is_behind and self._rings != rings):
            self.wake()  # the ring that should have woken the others may be lost, or is held behind a hole
        look.is_lasting = _is_lasting(verdict, snapshot)
        look.is_at_end = verdict.state is not State.MORE or look.reached(cursor) == snapshot.last_id
        return look

    def _note_life(self, record: StreamRecord, now_ms: int) -> None:
        now = asyncio.get_running_loop().time()
        if record.status is Status.PENDING:
            self.life.noted += 1
            self.life.look_at = now  # whether it waits to begin or to be tried again the page of a log does not tell
            return
        sign = Sign(record.status, record.lease_until_ms, record.lease_until_ms - now_ms)
        # Who is missed is not decided here, but by who knows for how long Redis has been there.
        is_known = self.life.silence == Silence(sign.lease_until_ms)
        if self.life.note(sign, now=now, may_judge=is_known):
            self.wake()

    def judge(self, cursor: EventId, snapshot: Snapshot) -> Verdict:
        """What a reader at the cursor may conclude from what `read` has found there, before anything is awaited."""
        if self.is_task and snapshot.record is None and snapshot.last_id is None:
            return Verdict(State.GONE, gap=Gap(cursor if cursor != ORIGIN else None, None, None))
        if self._is_standing_view and snapshot.record:
            return judge_standing(cursor, self.standing, snapshot)
        return judge_log(cursor, snapshot)

    async def read(self, cursor: EventId, *, with_marks: bool = False) -> Snapshot:
        """A page from the cursor on; for a standing view from the next standing event on, within its stretch."""
        if not self._is_standing_view:
            return await self._log.read(self.stream, first=cursor, limit=_page_limit(cursor), with_marks=with_marks)
        at = cursor
        while True:
            standing = self.standing
            first = standing.next_after(at)
            stretch = standing.stretch_of(first) if first else None
            snapshot = await self._log.read(
                self.stream,
                first=first or ORIGIN,
                last=stretch.last if stretch else None,
                limit=_page_limit(first) if first else 0,
                with_marks=with_marks,
            )
            if self.standing is not standing:
                at = cursor  # another look has adopted a newer chain, which this page was not chosen by
            elif snapshot.record and snapshot.record.chain != standing.chain:
                self._adopt(Standing(snapshot.record.chain))
                at = cursor
            elif snapshot.events or stretch is None or stretch.last is None:
                return snapshot
            else:
                at = stretch.last  # the rest of this stretch is gone; see where it goes on

    def _adopt(self, standing: Standing) -> None:
        """Follow a new attempt, or a run that begins again: the window keeps what still stands."""
        self.standing = standing
        self._looks.forget()
        top = self.window.top
        while top is not None and top != ORIGIN and standing.stretch_of(top) is None:
            lower = [stretch.last for stretch in standing.stretches if stretch.last and stretch.last < top]
            if not lower:
                self.window.clear()
                return
            self.window.cut_above(lower[-1])
            top = self.window.top if self.window.top != top else None

    def _drop_what_went_back(self, snapshot: Snapshot) -> None:
        top, last = self.window.top, snapshot.last_id or ORIGIN
        if top is not None and top > last:
            self.window.cut_above(last)

    def _extend(self, cursor: EventId, look: Look, snapshot: Snapshot) -> None:
        verdict, reached = look.verdict, look.reached(cursor)
        top = self.window.top
        if reached == top and verdict.state is not State.ENDED:
            self.window.is_ended = False  # a task that runs again: its old end ends nothing
        if top is not None and verdict.gap is None and verdict.events and reached > top:
            fresh = _place_behind(top, cursor, verdict.events)
            if fresh is not None:
                self._append(look, fresh)
                return
        last = snapshot.last_id or ORIGIN
        if (reached == last and (top is None or top < last)) or (top is None and verdict.events):
            self.window.start(verdict.events[0].id.before() if verdict.gap else cursor)
            self._append(look, 0)
        elif verdict.state is State.WAIT and (top is None or top < last) and not verdict.events:
            self.window.start(last)  # the cursor is ahead, or nothing stands yet: follow the log's end without it

    def _append(self, look: Look, first: int) -> None:
        events, is_ended = look.verdict.events, look.verdict.state is State.ENDED
        for place in range(first, len(events)):
            self.window.append(events[place].id, look.frames[place], ends=is_ended and place == len(events) - 1)

    def _continues_live(self, top: EventId, event: Event) -> bool:
        if self._is_standing_view:
            return event.id.continues(top) and event.id.generation == self.standing.newest
        return follows(top, event)


def _is_short(snapshot: Snapshot) -> bool:
    """Whether the log of an unfinished task was lost, and nobody has written it back yet."""
    record = snapshot.record
    return (
        record is not None
        and not record.status.is_ended
        and bool(record.chain)
        and record.last_id > (snapshot.last_id or ORIGIN)
    )


def _is_lasting(verdict: Verdict, snapshot: Snapshot) -> bool:
    """Whether the page is the same for who asks a moment later: it proves itself and ends before the log does."""
    if verdict.state is not State.MORE or verdict.gap or verdict.attempt or not verdict.events:
        return False
    return snapshot.last_id is not None and verdict.events[-1].id < snapshot.last_id


def _page_limit(first: EventId) -> int:
    """So many events that the page ends at a multiple of the page size, and is not a short one."""
    return 2 * _PAGE_EVENTS - first.sequence % _PAGE_EVENTS


def _place_behind(top: EventId, cursor: EventId, events: tuple[Event, ...]) -> int | None:
    """Where the events go on behind `top`; None if they do not prove it."""
    if top == cursor:
        return 0
    place = bisect_left(events, top, key=lambda event: event.id)
    return place + 1 if place < len(events) and events[place].id == top else None
