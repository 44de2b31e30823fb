"""Pages of a stream for those who do not follow it: contiguous, forwards or backwards, and gaps told.

Invariant: the events of a page follow each other without a hole, and what is missing right before its oldest event is
told in `gap`. A page ends where that cannot be said; the next one says it. Decides by `continuity`, as following does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from server.fanout.continuity import Gap, State, begins, is_next, judge_log
from server.fanout.standing import Standing
from server.streams.calls import Snapshot
from server.streams.errors import Unknown
from server.streams.event import Event
from server.streams.ids import ORIGIN, EventId
from server.streams.log import Log
from server.streams.names import task_of_stream

#: As much of the data as one look reads; a page of large events is shorter than it was asked to be.
_PAGE_BYTES: Final = 1 << 20
#: Of a task's log, in which much may be void.
_LOOK_EVENTS: Final = 256


@dataclass(slots=True)
class HistoryPage:
    """Events in the order asked for."""

    events: list[Event] = field(default_factory=list[Event])
    #: What is missing right before the oldest event of the page.
    gap: Gap | None = None
    #: Where the next page begins, `after` or `before` by its direction; None if there is none.
    next: EventId | None = None
    #: The cursor that goes on behind the newest event of the page.
    newest: EventId = ORIGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What is asked for: events between two ids, neither included."""

    limit: int
    after: EventId | None = None
    before: EventId | None = None
    #: Whether what a later attempt made void is shown as well.
    all_attempts: bool = False


async def forwards(log: Log, stream: str, asked: Range) -> HistoryPage:
    """A page, oldest first. Raises `Unknown` and `LogUnavailable`."""
    page, cursor, size = HistoryPage(), asked.after or ORIGIN, 0
    while True:
        left = asked.limit - len(page.events)
        snapshot = await log.read(stream, first=cursor, limit=_look_limit(stream, left))
        _check(stream, snapshot)
        verdict = judge_log(cursor, snapshot)
        if verdict.gap and (page.events or page.gap):
            page.next = cursor
            break
        page.gap = verdict.gap or page.gap
        standing = _standing(snapshot, asked)
        for event in verdict.events:
            if asked.before is not None and event.id >= asked.before:
                page.newest = cursor
                return page
            if len(page.events) == asked.limit or size >= _PAGE_BYTES:
                page.next = page.newest = cursor
                return page
            cursor = event.id
            if standing is None or standing.stretch_of(event.id):
                page.events.append(event)
                size += len(event.data)
        if verdict.state is State.LOST and verdict.rewind is not None:
            page.next = cursor = verdict.rewind
        elif verdict.gap and verdict.gap.resumed_at and not verdict.events:
            cursor = verdict.gap.resumed_at.before()
        if verdict.state is not State.MORE:
            break
    page.newest = cursor
    return page


async def backwards(log: Log, stream: str, asked: Range) -> HistoryPage:
    """A page, newest first. Raises `Unknown` and `LogUnavailable`."""
    page, size = HistoryPage(), 0
    top = asked.before.before() if asked.before is not None else None
    newer: Event | None = None
    while True:
        left = asked.limit - len(page.events)
        snapshot = await log.read(stream, last=top, limit=_look_limit(stream, left), backwards=True)
        _check(stream, snapshot)
        if newer is None:
            page.newest = snapshot.events[0].id if snapshot.events else top or snapshot.last_id or ORIGIN
        standing = _standing(snapshot, asked)
        for event in snapshot.events:
            if newer is not None and not is_next(event.id, newer, snapshot):
                page.gap = Gap(event.id, newer.id, _missed(event.id, newer.id))
            is_below = asked.after is not None and event.id <= asked.after
            if page.gap or is_below or len(page.events) == asked.limit or size >= _PAGE_BYTES:
                page.next = newer.id if newer is not None and not is_below else None
                return page
            newer = event
            if standing is None or standing.stretch_of(event.id):
                page.events.append(event)
                size += len(event.data)
        if not snapshot.events:
            page.gap = _gap_before(newer, snapshot, asked)
            return page
        top = snapshot.events[-1].id.before()


def _look_limit(stream: str, left: int) -> int:
    """The event at the cursor, those wanted, and one that shows that there are more."""
    return max(left, _LOOK_EVENTS if task_of_stream(stream) is not None else 0) + 2


def _check(stream: str, snapshot: Snapshot) -> None:
    is_task = task_of_stream(stream) is not None
    if snapshot.is_deleted or (is_task and snapshot.record is None and snapshot.last_id is None):
        raise Unknown(f"There is no stream {stream!r} any more. It has expired or was deleted.")


def _standing(snapshot: Snapshot, asked: Range) -> Standing | None:
    """Which events of a task to show; None for all."""
    return Standing(snapshot.record.chain) if snapshot.record and not asked.all_attempts else None


def _gap_before(oldest: Event | None, snapshot: Snapshot, asked: Range) -> Gap | None:
    """What is missing below the oldest event of a log, or below where a page was to begin."""
    if oldest is None:
        # Whether there ever was anything below only a log can say that still has all it ever had.
        is_known = asked.before is None or (snapshot.is_whole and snapshot.last_id is not None)
        return None if is_known else Gap(asked.after, asked.before, None)
    if asked.after is None and begins(oldest, snapshot):
        return None
    if asked.after is not None and (oldest.id.continues(asked.after) or oldest.previous == asked.after):
        return None
    return Gap(asked.after, oldest.id, _missed(asked.after, oldest.id) if asked.after else None)


def _missed(older: EventId, newer: EventId) -> int | None:
    return newer.sequence - older.sequence - 1 if older.generation == newer.generation else None
