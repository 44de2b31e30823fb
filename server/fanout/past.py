"""The past of a stream, compacted, for readers that come late: everything up to the end that it had when they came.

Invariant: nothing is left out for the sake of an event that the reader does not get. What supersedes lies at `end` or
before it; so a reader whose log goes on without having reached `end` (a failover has lost it) is told a gap.

It is read page by page, twice where events have keys: backwards to learn of the latest of each, then forwards as every
reader is served, by `Tail.read` and `Tail.judge`. The first way is bounded in pages and keys; what lies before is shown
though it may be superseded. A task's events have no keys, so its past is read once. Readers that come together share
all of this (`pasts`): who asks for a cursor for which another was just given a block gets that very block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from server.fanout.compaction import Compaction, key_of
from server.fanout.continuity import Gap, State, Verdict
from server.fanout.framed import Types
from server.fanout.looks import Look, Looks
from server.fanout.tail import Tail
from server.streams.ids import ORIGIN, EventId

#: Events per read backwards: some milliseconds of Redis and of the loop.
_PAGE_EVENTS: Final = 256
#: So many reads say which events are superseded: 65,536 events, six times what a stream keeps as it comes.
_MOST_SURVEYS: Final = 256
#: Keys that are remembered, of 128 characters at most: some megabytes while a reader catches up.
_MOST_KEYS: Final = 10_000
#: A look is given out when it has filled a write, or has read so many pages; the first one sooner, for the reader shall
#: hear something.
_MOST_PAGES: Final = 8
_FIRST_PAGES: Final = 2
_BLOCK_BYTES: Final = 65_536


class Past:
    """Events of a stream between a reader's first cursor and `end`, which is included."""

    def __init__(self, tail: Tail, begin: EventId, end: EventId, latest: Mapping[str, EventId]) -> None:
        self._tail = tail
        self._begin = begin
        self.end = end
        self._latest = latest
        self._looks = Looks(self._look, name=f"look at the past of {tail.stream}")
        self._forgotten = tail.forgotten

    def is_over(self, cursor: EventId, state: State) -> bool:
        """Whether a reader at the cursor, which was told this, goes on without."""
        return cursor >= self.end or (state is State.WAIT and not self._latest)

    def look(self, cursor: EventId) -> Look | asyncio.Task[Look]:
        """What follows the cursor, see `Tail.look`. Of its events it has the last one: the frames stand for all."""
        if self._forgotten != self._tail.forgotten:
            self._forgotten = self._tail.forgotten
            self._looks.forget()
        return self._looks.at(cursor)

    async def looked(self, cursor: EventId) -> Look:
        """The same, waited for. Raises `LogUnavailable`."""
        found = self.look(cursor)
        # One reader that leaves must not take the look from the others.
        return found if isinstance(found, Look) else await asyncio.shield(found)

    def expire(self) -> None:
        """Free what was kept for those who might have come, and did not."""
        self._looks.expire()

    async def _look(self, cursor: EventId) -> Look:
        forgotten, most_pages = self._tail.forgotten, _FIRST_PAGES if cursor == self._begin else _MOST_PAGES
        snapshot = await self._tail.read(cursor, with_marks=True)
        first = verdict = self._proved(cursor, self._tail.judge(cursor, snapshot))
        compaction, events, pages = Compaction(self._latest), verdict.events, 1
        while True:
            # Where the log goes on behind the end only, all of it: there is nothing left to compact.
            fresh = [event for event in verdict.events if event.id <= self.end] or verdict.events
            await asyncio.sleep(0)  # reading a page and judging it took the loop long enough
            for event in fresh:
                compaction.add(event, snapshot.marks.get(event.id))
            events = tuple(fresh[-1:])
            state = verdict.state if len(fresh) == len(verdict.events) else State.MORE
            is_full = compaction.size >= _BLOCK_BYTES or pages >= most_pages
            if state is not State.MORE or not events or events[0].id >= self.end or is_full:
                break
            reached = events[0].id
            snapshot = await self._tail.read(reached, with_marks=True)
            following = self._tail.judge(reached, snapshot)
            if following.gap or following.attempt or not following.events or following.events[0].id > self.end:
                break  # gets a look of its own
            verdict, pages = following, pages + 1
        found = Look(replace(first, state=state, events=events), frames=compaction.frames())
        found.is_at_end = state is not State.MORE or found.reached(cursor) == snapshot.last_id
        found.is_lasting = self._is_lasting(found.verdict) and forgotten == self._tail.forgotten
        return found

    def _is_lasting(self, verdict: Verdict) -> bool:
        """Whether who asks a moment later gets the same: the block proves itself, and ends before the past does."""
        is_proved = verdict.state is State.MORE and not verdict.gap and not verdict.attempt
        return is_proved and bool(verdict.events) and verdict.events[-1].id < self.end

    def _proved(self, cursor: EventId, verdict: Verdict) -> Verdict:
        """The verdict, with a gap if what superseded others is not there."""
        if self._latest and not verdict.gap and verdict.events and cursor < self.end < verdict.events[0].id:
            return replace(verdict, gap=Gap(cursor if cursor != ORIGIN else None, verdict.events[0].id, None))
        return verdict


async def past_behind(tail: Tail, cursor: EventId, *, types: Types | None) -> Past | None:
    """What a reader of these types can be shown compacted behind its cursor; None if there is nothing.

    Raises `LogUnavailable`.
    """
    if tail.is_task:
        last = await tail.last_id()
        return Past(tail, cursor, last, {}) if cursor < last else None
    latest: dict[str, EventId] = {}
    end = oldest = None
    for _ in range(_MOST_SURVEYS):
        snapshot = await tail.newest(cursor, before=oldest, limit=_PAGE_EVENTS)
        for event in snapshot.events:
            key = key_of(event, snapshot.marks.get(event.id))
            if key is not None and (types is None or event.type.encode() in types):
                latest.setdefault(key, event.id)
        if not snapshot.events:
            break
        end = end or snapshot.events[0].id
        oldest = snapshot.events[-1].id
        if oldest <= cursor.next() or len(latest) >= _MOST_KEYS:
            break
    return Past(tail, cursor, end, latest) if end else None
