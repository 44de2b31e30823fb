"""What a reader may conclude from one look at a stream. Pure; every promise of "no silent hole" is decided here.

Theory of operation
-------------------
A reader holds a cursor and looks at a snapshot: a page of the log, the log's last id, the record.

1. Within a generation, sequences count without holes: the next number proves that nothing was missed.
2. Across generations of a *shared* stream, the first event says in `previous` what the log held before it. A reader
   whose cursor is that id goes on; so does one that has seen more of that generation (a failover lost what it holds).
   Not so if `lost` says that the publisher had been given a later id. A foreign writer leaves `previous` out; then the
   neighbour in the log decides, which is why the log is read from the cursor on, the cursor included; and whether an
   entry was ever taken out of there (XDEL), which XINFO knows.
3. Of a *task*, a reader gets the standing events after its cursor and nothing else. A new attempt voids what does not
   stand, so a jump over void events is no gap: the `attempt` event is the announcement. A terminal event that opens a
   generation, where no writer lived, announces nothing: it is judged by rule 2.
4. Anything else is a gap, told with what was asked for and where it goes on.
5. A cursor ahead of the log is normal while a writer repairs: `XREAD` from it returns nothing, for ever. So
   the log's last id is compared with the cursor:

       log's last id         task unfinished                   otherwise
       same generation,      wait: repaired, or a new          ended: the terminal event, from the record
         lower               generation opens                  shared: wait
       lower generation,     wait while a lease lives of a     the end made from the record, or a gap and on
         or no log           run that may reach the cursor,    from the log's first entry, or unknown
                             then a gap and on
       higher generation     read on: rules 2 and 3 decide

   Before a loss is told, the reader waits one lease (`State.LOST`): a living writer writes everything back in a fifth.
6. A task has ended for a reader only if the record is ended *and* names the event as its last id. An old `complete` in
   the log of a task that runs again ends nothing.
7. A stream that was deleted has ended with an id that is remembered: a reader at any other cursor was not told. Its
   events are no gap. Of a shared log that has expired behind its end the end is remembered too; the rest is a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from server.fanout.standing import Standing
from server.streams.calls import Snapshot
from server.streams.event import Event, deleted_end
from server.streams.ids import ORIGIN, EventId
from server.streams.records import Status, StreamRecord


class State(Enum):
    """What the reader does after it delivered a verdict's events."""

    #: Look again at once.
    MORE = "more"
    #: Wait for a ring or the sweep.
    WAIT = "wait"
    #: It has everything.
    ENDED = "ended"
    #: Wait for one lease; if it is still so then, tell the gap and go on from `rewind`.
    LOST = "lost"
    #: The same, but there is no task any more: tell the gap and end.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that are no longer there."""

    #: The reader's cursor; None if it asked for the beginning.
    requested: EventId | None
    #: The first event delivered after the gap; None if there is none yet.
    resumed_at: EventId | None
    #: How many events are missing, where that can be counted.
    missed: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look allows to be delivered, in order: the attempt, the gap, the events."""

    state: State
    events: tuple[Event, ...] = ()
    gap: Gap | None = None
    #: Data of the newest `attempt` if the event itself is gone.
    attempt: str | None = None
    #: With `LOST`: where to look from once the gap was told; None to stay.
    rewind: EventId | None = None
    #: With `ENDED`: whether the stream was deleted, which who follows nothing else need not be told by an event.
    is_deleted: bool = False


def follows(cursor: EventId, event: Event) -> bool:
    """Whether the event proves by itself that nothing lies between the cursor and it (rules 1 and 2)."""
    if event.id.continues(cursor):
        return True
    previous = event.previous
    if previous is None or event.lost is not None:
        return False
    return cursor == previous or (cursor.generation == previous.generation and cursor > previous)


def begins(event: Event, snapshot: Snapshot) -> bool:
    """Whether the event is the first one that its log ever had."""
    return event.previous == ORIGIN or (_is_foreign_start(event) and snapshot.is_whole)


def judge_log(cursor: EventId, snapshot: Snapshot) -> Verdict:
    """Judge a shared stream, or every attempt of a task. The page begins at the cursor, which is included."""
    record, rows = snapshot.record, snapshot.events
    if snapshot.end is not None:
        return _deleted(cursor, snapshot.end) if snapshot.is_deleted else _expired(cursor, snapshot.end)
    if record and (over := _over(cursor, record)):
        return over
    if rows and rows[0].id == cursor:
        neighbour, rows = rows[0], rows[1:]
        if not rows:
            return Verdict(State.ENDED) if _ends(neighbour, record) else _nothing_after(cursor, snapshot)
        if not is_next(cursor, rows[0], snapshot):
            return _after_gap(cursor, rows, snapshot)
        return _run(rows, snapshot)
    if not rows:
        return _nothing_after(cursor, snapshot)
    if cursor == ORIGIN:
        return _run(rows, snapshot) if begins(rows[0], snapshot) else _after_gap(None, rows, snapshot)
    return _run(rows, snapshot) if follows(cursor, rows[0]) else _after_gap(cursor, rows, snapshot)


def judge_standing(cursor: EventId, standing: Standing, snapshot: Snapshot) -> Verdict:
    """Judge a task by its standing events. The page holds those of one stretch, from the next expected one on.

    The snapshot has a record, and `standing` is made from that record's chain.
    """
    record, rows = snapshot.record, snapshot.events
    if record and (over := _over(cursor, record)):
        return over
    expected = standing.next_after(cursor)
    if expected is None and standing.stretches:
        return _nothing_after(cursor, snapshot)
    if expected is None:
        return Verdict(State.WAIT)
    if not rows:
        return _nothing_after(cursor, snapshot, expected)
    if rows[0].id == expected:
        return _run(rows, snapshot) if _is_announced(cursor, rows[0]) else _after_gap(cursor, rows, snapshot)
    missed = rows[0].id.sequence - expected.sequence if rows[0].id.generation == expected.generation else None
    verdict = _after_gap(cursor if cursor != ORIGIN else None, rows, snapshot, missed=missed)
    opened = expected.sequence == 0 or rows[0].id.generation != expected.generation
    is_told = opened and rows[0].id.sequence > 0 and record is not None and rows[0].id.generation == standing.newest
    return Verdict(verdict.state, verdict.events, verdict.gap, record.opening if is_told and record else None)


def _is_announced(cursor: EventId, event: Event) -> bool:
    """Whether the jump to the event is explained. An `attempt` explains itself; an end that was written where no writer
    lived does not, if the log had been lost before.
    """
    return cursor == ORIGIN or event.id.sequence > 0 or not event.is_terminal or follows(cursor, event)


def _over(cursor: EventId, record: StreamRecord) -> Verdict | None:
    """If the reader has everything, or nothing is left. A cursor beyond the end is none of this run's: it is told the
    end.
    """
    if record.status is Status.DELETED:
        return _deleted(cursor, deleted_end(record.last_id))
    return Verdict(State.ENDED) if record.status.is_ended and cursor == record.last_id else None


def _deleted(cursor: EventId, end: Event) -> Verdict:
    """Rule 7."""
    return Verdict(State.ENDED, () if cursor == end.id else (end,), is_deleted=True)


def _expired(cursor: EventId, end: Event) -> Verdict:
    """Rule 7. Whoever is ahead of the end waits for nothing: there is no log that could be restored."""
    if cursor == end.id:
        return Verdict(State.ENDED)
    gap = None if end.id.continues(cursor) else Gap(cursor if cursor != ORIGIN else None, end.id, _between(cursor, end))
    return Verdict(State.ENDED, (end,), gap)


def _between(cursor: EventId, event: Event) -> int | None:
    is_behind = cursor.generation == event.id.generation and cursor < event.id
    return event.id.sequence - cursor.sequence - 1 if is_behind else None


def _is_foreign_start(event: Event) -> bool:
    return event.previous is None and event.id.sequence == 0


def is_next(neighbour: EventId, event: Event, snapshot: Snapshot) -> bool:
    """Whether nothing lies between two neighbours in the log: the event says so, or nothing was taken out of there."""
    return follows(neighbour, event) or (_is_foreign_start(event) and snapshot.deleted_up_to <= neighbour)


def _run(rows: Sequence[Event], snapshot: Snapshot) -> Verdict:
    """The rows up to the first one that does not follow its neighbour; that one gets a verdict of its own."""
    length = 1
    while length < len(rows) and is_next(rows[length - 1].id, rows[length], snapshot):
        length += 1
    events = tuple(rows[:length])
    return Verdict(State.ENDED if _ends(events[-1], snapshot.record) else State.MORE, events)


def _ends(event: Event, record: StreamRecord | None) -> bool:
    if record is None:
        return event.is_terminal
    return record.status.is_ended and event.id == record.last_id


def _after_gap(
    requested: EventId | None,
    rows: Sequence[Event],
    snapshot: Snapshot,
    *,
    missed: int | None = None,
) -> Verdict:
    first = rows[0].id
    if missed is None and requested and requested.generation == first.generation:
        missed = first.sequence - requested.sequence - 1
    run = _run(rows, snapshot)
    return Verdict(run.state, run.events, Gap(requested, first, missed))


def _nothing_after(cursor: EventId, snapshot: Snapshot, expected: EventId | None = None) -> Verdict:
    """The page is empty: the cursor is at the log's end or ahead of it, or the log is gone (rule 5)."""
    record, last = snapshot.record, snapshot.last_id
    if record and record.status.is_ended:
        return _end_from_record(cursor, record, expected or cursor.next())
    if last is not None and last >= (expected or cursor.next()):
        return _all_removed(cursor, last, _missed_attempt(cursor, record) if record and expected else None)
    is_first = cursor == ORIGIN and (record is None or record.last_id == ORIGIN)
    if is_first or (last is not None and last.generation == cursor.generation):
        return Verdict(State.WAIT)
    if record and record.is_leased(snapshot.now_ms) and _may_come_back(cursor, record):
        return Verdict(State.WAIT)
    if last is None or last.generation > cursor.generation:
        return Verdict(State.LOST, gap=Gap(cursor if cursor != ORIGIN else None, None, None))
    return Verdict(State.LOST, gap=Gap(cursor, None, None), rewind=ORIGIN)


def _may_come_back(cursor: EventId, record: StreamRecord) -> bool:
    """Whether the living writer may write up to the cursor. One of a lower generation never does: Redis lost the claim
    of the higher one, and had its clock set back.
    """
    return not record.chain or record.chain[-1].generation >= cursor.generation


def _all_removed(cursor: EventId, last: EventId, attempt: str | None) -> Verdict:
    """A log that has given out ids behind the cursor and holds none of them: they were trimmed or deleted by hand."""
    missed = last.sequence - cursor.sequence if last.generation == cursor.generation else None
    return Verdict(State.MORE, gap=Gap(cursor if cursor != ORIGIN else None, last.next(), missed), attempt=attempt)


def _end_from_record(cursor: EventId, record: StreamRecord, expected: EventId) -> Verdict:
    terminal = record.terminal_event()
    if terminal is None:
        return Verdict(State.ENDED)
    if terminal.id == expected:
        return Verdict(State.ENDED, (terminal,))
    is_behind = expected.generation == terminal.id.generation and expected < terminal.id
    missed = terminal.id.sequence - expected.sequence if is_behind else None
    gap = Gap(cursor if cursor != ORIGIN else None, terminal.id, missed)
    return Verdict(State.ENDED, (terminal,), gap, _missed_attempt(cursor, record))


def _missed_attempt(cursor: EventId, record: StreamRecord) -> str | None:
    """Data of the newest attempt, whose event is gone, unless the reader is in it already."""
    # An end that was written where no writer lived has a generation of its own, behind the attempt's.
    is_end_apart = record.status.is_ended and record.last_id.sequence == 0
    newest = record.chain[-2 if is_end_apart else -1 :][:1]
    return None if any(link.generation == cursor.generation for link in newest) else record.opening
