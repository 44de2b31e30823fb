"""Composite ids, as tests read and write them."""

from __future__ import annotations

from typing import Literal

from server.fanout import Start
from server.streams.cursor import parse_composite
from server.streams.ids import EventId


def positions_in(composite: str) -> dict[str, EventId]:
    """Each stream's position; the event's own stream is the first."""
    return parse_composite(composite, [part.rpartition(":")[0] for part in composite.split(",")])


def own_of(composite: str) -> tuple[str, EventId]:
    """The event's own stream, and its id there."""
    return next(iter(positions_in(composite).items()))


def starts(*streams: str, cursors: str = "", at: Literal["latest"] | None = None) -> dict[str, Start]:
    """Where a request begins that has the composite cursor, or none."""
    positions = parse_composite(cursors, streams) if cursors else {}
    return {stream: Start(cursor=positions.get(stream), at=at) for stream in streams}
