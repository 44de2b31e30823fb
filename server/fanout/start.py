"""Where and how a subscriber begins, and the times that all of them share. Knows nothing of what it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from server.fanout.tail import Tail
from server.streams.ids import ORIGIN, EventId


@dataclass(frozen=True, slots=True)
class Start:
    """Where and how a subscriber begins."""

    #: Everything after this; beats `at` and `last`.
    cursor: EventId | None = None
    #: An end of the stream; None for the stream's own choice.
    at: Literal["earliest", "latest"] | None = None
    #: The newest so many events of the newest generation.
    last: int | None = None
    #: Whether superseded attempts are shown as well.
    all_attempts: bool = False
    #: Whether heartbeats are events, which a page can see, and not comments.
    heartbeat_events: bool = False
    #: What to put in front of each id, which makes it composite: "<stream>:".
    id_prefix: str = ""
    #: Whether the first event is `position` even if a real one could be sent.
    announce_position: bool = False


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
    at_end = start.at == "latest" or (start.at is None and start.last is None and starts_at_end)
    if not at_end and start.last is None:
        return ORIGIN
    last = tail.window.top if is_live else None
    if last is None:
        last = await tail.last_id()
    if start.last is None or last == ORIGIN:
        return last
    if last.sequence >= start.last:
        return EventId(last.generation, last.sequence - start.last)
    return EventId(last.generation, 0).before()
