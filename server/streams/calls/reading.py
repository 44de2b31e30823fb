"""One consistent look at a stream: a page of its log, its bounds, and the record of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from server.streams.calls.script import Call, script
from server.streams.event import Event, decode_entries, deleted_end
from server.streams.ids import ORIGIN, EventId, decode_event_id
from server.streams.keys import Keys
from server.streams.marks import Mark, marks_of
from server.streams.names import task_of_stream
from server.streams.records import StreamRecord


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent look at a stream."""

    #: The page asked for, oldest first.
    events: tuple[Event, ...]
    #: The last id the log has given out; None if there is no log.
    last_id: EventId | None
    #: Whether the log's last entry is terminal.
    is_closed: bool
    #: None if the stream has no record: not a task's, or the task is unknown.
    record: StreamRecord | None
    #: Redis' clock, ms since epoch.
    now_ms: int
    #: The highest id that anybody ever took out of the middle of the log.
    deleted_up_to: EventId = ORIGIN
    #: Whether the log holds every entry it ever had.
    is_whole: bool = True
    #: Whether the stream, not a task's, was deleted and a marker tells so. Looked up where there is no log: `Log.read`.
    is_deleted: bool = False
    #: With what the stream, not a task's, ended, although there is no log any more: it was deleted, or has expired and
    #: its end is remembered. Looked up as `is_deleted` is.
    end: Event | None = None
    #: Marks of the events that have one, if they were asked for.
    marks: Mapping[EventId, Mark] = field(default_factory=dict[EventId, Mark])


#: What is known of a shared stream's end where there is no log: see docs/keys.md, "Fields of a stream".
END_FIELDS: Final = ("deleted", "last_id", "end_type", "end", "ended_at")


def with_end(snapshot: Snapshot, values: Sequence[bytes | None], page: tuple[EventId, EventId | None, int]) -> Snapshot:
    """A look that found no log, with what `END_FIELDS` say; `page` is what was asked for: first, last, limit.

    A log that has expired behind its end is one of which nothing but the end is left. Of a deleted stream nothing is.
    """
    deleted, last_id, end_type, data, at = values
    last = decode_event_id(last_id) if last_id else ORIGIN
    if deleted is not None:
        return replace(snapshot, is_deleted=True, end=deleted_end(last))
    if end_type is None:
        return snapshot
    entry = [b"e", end_type, b"d", data or b"", b"t", at or b"", b"z", b"1"]
    [end] = decode_entries([[str(last).encode(), entry]])
    lowest, highest, limit = page
    is_asked_for = limit > 0 and lowest <= last and (highest is None or last <= highest)
    return replace(
        snapshot, events=(end,) if is_asked_for else (), last_id=last, is_closed=True, is_whole=False, end=end
    )


def read(
    keys: Keys,
    stream: str,
    *,
    first: EventId,
    last: EventId | None,
    limit: int,
    backwards: bool = False,
    with_marks: bool = False,
) -> Call[Snapshot]:
    """Read up to `limit` events from `first` on, `first` included, up to `last`; fewer, about 1 MiB, of large ones.

    `backwards`: from `last` on, `last` included, down to `first`, newest first.
    """

    def parse(raw: Sequence[Any]) -> Snapshot:
        rows, last_id, closed, record, now, deleted, whole = raw
        return Snapshot(
            decode_entries(rows),
            decode_event_id(last_id) if last_id else None,
            closed == b"1",
            StreamRecord.decode(record) if record else None,
            int(now),
            decode_event_id(deleted),
            whole == b"1",
            marks=marks_of(rows) if with_marks else {},
        )

    task_id = task_of_stream(stream)
    log = keys.log(stream)
    args = (str(first), str(last) if last else "+", limit, int(task_id is not None), int(backwards))
    # The log stands for a record that there never is. Few shared streams have any other key, and one that is nowhere is
    # TRYAGAIN for as long as its slot is on its way: no reader would get anything in that time.
    return Call(script("read"), (log, log if task_id is None else keys.record(task_id)), args, parse)
