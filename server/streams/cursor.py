"""Cursors: where a reader stands in one stream, or in several at once.

A single cursor is an event id. A composite one lists a position for every stream a response carries, the event's own
stream first: `chat.42:1795343970123-57,system:0-0`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from server.streams.errors import InvalidCursor
from server.streams.ids import EventId, parse_event_id


def parse_composite(text: str, streams: Sequence[str]) -> dict[str, EventId]:
    """The position in each stream that the cursor names.

    Raises `InvalidCursor` if a part does not parse, is repeated, or names a stream that is not in `streams`.
    """
    positions: dict[str, EventId] = {}
    for part in text.split(","):
        stream, colon, position = part.rpartition(":")
        if not colon or stream not in streams:
            raise InvalidCursor(
                f"The cursor part {part[:200]!r} names no stream of this request, which carries {', '.join(streams)}. "
                "Send back an id exactly as it was received from this address."
            )
        if stream in positions:
            raise InvalidCursor(f"The cursor names {stream!r} twice. Send back an id exactly as it was received.")
        positions[stream] = parse_event_id(position)
    return positions


def format_composite(own: str, positions: Mapping[str, EventId]) -> str:
    """The composite id of an event of the stream `own`, given the positions after it."""
    others: Iterable[str] = (stream for stream in positions if stream != own)
    return ",".join(f"{stream}:{positions[stream]}" for stream in (own, *others))
