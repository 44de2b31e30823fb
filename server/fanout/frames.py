"""Frames: events and what is told in band, as bytes of an event stream. Pure.

Invariant: an event's frame begins with its id line and goes on with its type, so `framed` can replace the one and
filter by the other without encoding again; a frame that must not move a cursor has no id line; no frame is without
data.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import json
from typing import Any, Final

from server.streams.event import Event
from server.streams.ids import EventId
from server.streams.records import rfc3339
from server.streams.sign import Pause

HEARTBEAT_COMMENT: Final = b": heartbeat\n\n"
HEARTBEAT_EVENT: Final = b"event: heartbeat\ndata: {}\n\n"


def event_frame(event: Event) -> bytes:
    """The frame of an event of the log. Its data has LF line ends only."""
    generation, sequence = event.id  # its `__str__` would cost as much as all the rest
    data = event.data
    if "\n" in data:
        data = data.replace("\n", "\ndata: ")
    return f"id: {generation}-{sequence}\nevent: {event.type}\ndata: {data}\n\n".encode()


def position_frame(cursor: EventId | str) -> bytes:
    """Moves the reader's cursor without carrying an event. It has data: Firefox ignores an id without."""
    return f"id: {cursor}\nevent: position\ndata: {{}}\n\n".encode()


def gap_frame(stream: str, *, requested: EventId | None, resumed_at: EventId | None, missed: int | None) -> bytes:
    """Tells the reader that events after `requested` are gone."""
    return _told(
        "gap",
        {
            "stream": stream,
            "requested": str(requested) if requested else None,
            "resumed_at": str(resumed_at) if resumed_at else None,
            "missed": missed,
        },
    )


def stalled_frame(stream: str, *, since_ms: int, pause: Pause | None = None) -> bytes:
    """Tells the reader that nobody is known to write the task since then: its worker is missed, or it pauses."""
    told: dict[str, Any] = {"stream": stream, "since": rfc3339(str(since_ms)), "reason": "worker_lost"}
    if pause:
        told |= {"reason": "retry", "error": pause.error, "not_before": rfc3339(str(pause.not_before_ms))}
    return _told("stalled", told)


def attempt_frame(data: str) -> bytes:
    """The newest `attempt`, told from the record because the event was trimmed; so it has no id."""
    return f"event: attempt\ndata: {data}\n\n".encode()


def retry_frame(milliseconds: int) -> bytes:
    """How long the browser is to wait before it reconnects."""
    return b"retry: %d\n\n" % milliseconds


def preamble(retry_ms: int) -> bytes:
    """First block of every response: bytes at once, so that proxies and browsers know the stream is open."""
    return b"retry: %d\n: reprise\n\n" % retry_ms


def _told(event_type: str, data: dict[str, Any]) -> bytes:
    return f"event: {event_type}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
