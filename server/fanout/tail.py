"""The tail of one watched stream in this process: its window, and how that follows the log.

Theory of operation
-------------------
1. A ring whose events follow the window's top extends the window. Any other ring (a hole, a new attempt, no contents)
   only says that the tail has *fallen behind*: the log has to be looked at.
2. Looks are made by subscribers, from their own cursors, and shared: whoever asks for the cursor another one is
   reading waits for the same answer. So there is no second reader, and no seam between replay and live.
3. What a look finds extends the window if it continues it, and starts it if it reached the end of the log.
4. "Behind" ends only with a look that was begun after the last ring that set it.

       subscriber            tail                       Redis
       look begins ────────► falls = 7 ───────────────► read … 41
                             ring 43: behind, falls = 8 ◄─ append 42 (ring lost), 43
                   ◄──────── read says 41; falls ≠ 7: still behind, so look again

5. A log whose last id is below the window's top went back. What lies above is dropped, unless a ring came during the
   read: then the read may simply be older than the ring.
"""

from __future__ import annotations

import asyncio
from typing import Final

from server.fanout.bell import parse_ring
from server.fanout.continuity import Gap, State, Verdict, follows, judge_log, judge_standing
from server.fanout.frames import event_frame
from server.fanout.standing import Standing
from server.fanout.window import Window
from server.streams.calls import Snapshot
from server.streams.event import Event
from server.streams.ids import ORIGIN, EventId
from server.streams.log import Log
from server.streams.names import task_of_stream

#: Events per read: few enough that reading a page does not hold up Redis or the loop for more than some milliseconds.
_PAGE_EVENTS: Final = 256


class Tail:
    """One stream in one view: the standing events of a task, or everything in the log."""

    def __init__(self, log: Log, stream: str, *, all_attempts: bool, window_bytes: int) -> None:
        self._log = log
        self.stream = stream
        self.is_task = task_of_stream(stream) is not None
        #: Set by looks, for a task in its standing view.
        self.standing = Standing(())
        self._is_standing_view = self.is_task and not all_attempts
        self.window = Window(window_bytes)
        #: Whether the log has to be looked at to know more than the window.
        self.is_behind = True
        #: Counts everything a waiting subscriber may want to look at.
        self.version = 0
        self._rings = 0
        self._falls = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._looks: dict[EventId, asyncio.Task[Verdict]] = {}

    def ring(self, payload: bytes) -> None:
        """Take what a ring brings, or fall behind."""
        self._rings += 1
        events = parse_ring(payload)
        if events is None:
            self.fall_behind()
            return
        for event in events:
            top = self.window.top
            if top is not None and event.id <= top:
                continue  # late or repeated: repair writes the same ids again
            if self.is_behind or top is None or not self._continues_live(top, event):
                self.fall_behind()
                return
            self.window.append(event.id, event_frame(event), ends=event.is_terminal)
        self.wake()

    def fall_behind(self) -> None:
        """Have the log looked at, and wake everybody to do it."""
        self.is_behind = True
        self._falls += 1
        self.wake()

    def wake(self) -> None:
        """Let every waiting subscriber look again."""
        self.version += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed_since(self, version: int, *, timeout_seconds: float) -> bool:
        """Wait until `version` has moved on; False if it did not in time."""
        if self.version != version:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def look(self, cursor: EventId) -> Verdict:
        """Read the log behind the cursor and judge it. Raises `LogUnavailable`."""
        running = self._looks.get(cursor)
        if running is None:
            running = asyncio.create_task(self._look(cursor), name=f"look at {self.stream}")
            self._looks[cursor] = running
            running.add_done_callback(lambda done: self._looked(cursor, done))
        return await asyncio.shield(running)  # one subscriber that leaves must not take the look from the others

    async def last_id(self) -> EventId:
        """The log's last id, `ORIGIN` if there is none. Raises `LogUnavailable`."""
        snapshot = await self._log.read(self.stream)
        return snapshot.last_id or ORIGIN

    def _looked(self, cursor: EventId, done: asyncio.Task[Verdict]) -> None:
        del self._looks[cursor]
        if not done.cancelled():
            done.exception()  # told to whoever still waits; not to the event loop

    async def _look(self, cursor: EventId) -> Verdict:
        rings, falls = self._rings, self._falls
        snapshot = await self._read(cursor)
        top = self.window.top
        if self.is_task and snapshot.record is None and snapshot.last_id is None:
            return Verdict(State.GONE, gap=Gap(cursor if cursor != ORIGIN else None, None, None))
        if self._is_standing_view and snapshot.record:
            verdict = judge_standing(cursor, self.standing, snapshot)
        else:
            verdict = judge_log(cursor, snapshot)
        if self._rings == rings:
            self._drop_what_went_back(snapshot)
        if _is_short(snapshot):
            self.window.clear()  # nobody may rest at the end of a log that lacks what its record names
        elif verdict.state is not State.LOST:
            self._extend(cursor, verdict, snapshot)
        if self._falls == falls and self.window.top == (snapshot.last_id or ORIGIN):
            self.is_behind = False
        if self.window.top != top:
            self.wake()  # the ring that should have woken the others may be lost
        return verdict

    async def _read(self, cursor: EventId) -> Snapshot:
        """A page from the cursor on; for a standing view from the next standing event on, within its stretch."""
        if not self._is_standing_view:
            return await self._log.read(self.stream, first=cursor, limit=_PAGE_EVENTS)
        at = cursor
        while True:
            standing = self.standing
            first = standing.next_after(at)
            stretch = standing.stretch_of(first) if first else None
            snapshot = await self._log.read(
                self.stream,
                first=first or ORIGIN,
                last=stretch.last if stretch else None,
                limit=_PAGE_EVENTS if first else 0,
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

    def _extend(self, cursor: EventId, verdict: Verdict, snapshot: Snapshot) -> None:
        reached = verdict.events[-1].id if verdict.events else cursor
        top = self.window.top
        if reached == top and verdict.state is not State.ENDED:
            self.window.is_ended = False  # a task that runs again: its old end ends nothing
        if top is not None and (top == cursor or any(event.id == top for event in verdict.events)):
            fresh = [event for event in verdict.events if event.id > top]
            if fresh and verdict.gap is None:
                self._append(fresh, verdict)
                return
        last = snapshot.last_id or ORIGIN
        if reached == last and (top is None or top < last):
            self.window.start(verdict.events[0].id.before() if verdict.events else cursor)
            self._append(list(verdict.events), verdict)
        elif verdict.state is State.WAIT and (top is None or top < last) and not verdict.events:
            self.window.start(last)  # the cursor is ahead, or nothing stands yet: follow the log's end without it

    def _append(self, events: list[Event], verdict: Verdict) -> None:
        for event in events:
            ends = verdict.state is State.ENDED and event is verdict.events[-1]
            self.window.append(event.id, event_frame(event), ends=ends)

    def _continues_live(self, top: EventId, event: Event) -> bool:
        if self._is_standing_view:
            return event.id.continues(top) and self.standing.is_newest(event.id.generation)
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
