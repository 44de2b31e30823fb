"""Where a subscriber begins, what it wants to see, and the times that all of them share.

Knows nothing of what it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from server.fanout.framed import Types
from server.fanout.tail import Tail
from server.streams.ids import ORIGIN, EventId
from server.streams.seek import newest, since


@dataclass(frozen=True, slots=True)
class Start:
    """Where a subscriber begins in one stream."""

    #: Everything after this; beats the others.
    cursor: EventId | None = None
    #: An end of the stream; None for the stream's own choice.
    at: Literal["earliest", "latest"] | None = None
    #: The newest so many events.
    last: int | None = None
    #: What has happened since then, ms since epoch.
    since_ms: int | None = None
    #: Whether superseded attempts are shown as well.
    all_attempts: bool = False
    #: Whether what is there already is shown compacted.
    is_compact: bool = False


@dataclass(frozen=True, slots=True)
class Manner:
    """What a subscriber wants to see of all its streams."""

    #: The types of events; None for all.
    types: Types | None = None
    #: Whether heartbeats are events, which a page can see, and not comments.
    heartbeat_events: bool = False
    #: Whether ids name their streams, with a position in each.
    is_composite: bool = False
    #: Whether the first event is `position` even if a real one could be sent.
    announce_position: bool = False


#: Everything, with plain ids.
USUAL: Final = Manner()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The times that all subscriptions share, in seconds."""

    heartbeat: float
    max_age: float
    lease: float
    #: How long a reader may take nothing of what was written to it.
    stall: float = 60.0


async def first_cursor(tail: Tail, start: Start, *, starts_at_end: bool, is_live: bool) -> EventId:
    """The cursor a subscriber begins with; `is_live` says that the window is current. Raises `LogUnavailable`."""
    if start.cursor is not None:
        return start.cursor
    if start.since_ms is not None:
        return await tail.find(since(start.since_ms))
    at_end = start.at == "latest" or (start.at is None and start.last is None and starts_at_end)
    if not at_end and start.last is None:
        return ORIGIN
    last = tail.window.top if is_live else None
    if last is None:
        last = await tail.last_id()
    if start.last is None or last == ORIGIN:
        return last
    if is_live and last.sequence >= start.last:
        cursor = EventId(last.generation, last.sequence - start.last)
        if tail.block_after(cursor) is not None:
            return cursor
    return await tail.find(newest(start.last, last))
