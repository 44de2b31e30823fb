"""Blocks of an event stream, decoded by httpx-sse: a decoder we did not write."""

from __future__ import annotations

import httpx
from httpx_sse import EventSource, ServerSentEvent

from server.streams.ids import EventId, parse_event_id


def decode(*blocks: bytes) -> list[ServerSentEvent]:
    """The events of a body. Blocks without data (comments, `retry:`) are none: httpx-sse makes empty ones of them."""
    body = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(blocks))
    return [event for event in EventSource(body).iter_sse() if event.data or event.event != "message"]


def ids_in(*blocks: bytes) -> list[EventId]:
    """Ids of events in the order they came; those of `position` carry no event and are left out."""
    own = [event for event in decode(*blocks) if event.event not in {"position", "gap", "stalled", "heartbeat"}]
    return [parse_event_id(event.id) for event in own if event.id]


def sequences(*blocks: bytes) -> list[int]:
    return [found.sequence for found in ids_in(*blocks)]
