"""Shared streams as a whole: settings, deletion; and what there is to say about any stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from server.streams.calls.lifetimes import Lifetimes
from server.streams.calls.script import Call, Reply, parse_reply, script
from server.streams.event import Draft
from server.streams.ids import EventId, decode_event_id
from server.streams.keys import Keys
from server.streams.retention import Keep, Retention


@dataclass(frozen=True, slots=True)
class Configured:
    """created, same, or differs with the settings that the stream has."""

    outcome: str
    retention: Retention


def configure(
    keys: Keys, stream: str, retention: Retention, *, lifetimes: Lifetimes, max_events: int
) -> Call[Configured]:
    """Give a shared stream settings, once. `max_events`: what the installation keeps of others, 0 for no limit."""

    def parse(raw: Sequence[Any]) -> Configured:
        return Configured(raw[0].decode(), _retention(*raw[1:]) if len(raw) > 1 else retention)

    args = (
        retention.keep, retention.max_events or 0, retention.ttl_ms or 0, max_events, lifetimes.retention_ms,
        lifetimes.live_ms,
    )  # fmt: skip
    return Call(script("configure"), (keys.log(stream), keys.about(stream)), args, parse)


def erase(
    keys: Keys, stream: str, end: Draft, *, entropy: int, known: EventId | None, lifetimes: Lifetimes
) -> Call[Reply]:
    """Delete a shared stream; its readers are told `end`. Outcomes: deleted with the last id, missing."""
    args = (keys.bell(stream), entropy, str(known) if known else "", end.type, end.data, lifetimes.retention_ms)
    return Call(script("erase"), (keys.log(stream), keys.about(stream)), args, parse_reply)


def enlist(keys: Keys, stream: str) -> Call[int]:
    """Put a stream on the index of streams."""
    return Call(script("enlist"), (keys.streams_index,), (stream,), int)


@dataclass(frozen=True, slots=True)
class About:
    """A stream as it is now."""

    #: Of the events that are kept; None if there are none.
    first_id: EventId | None
    #: The last id ever given out, as far as it is known.
    last_id: EventId | None
    is_closed: bool
    length: int
    #: What the log occupies in Redis, estimated; None if that is not known.
    size_bytes: int | None
    #: Until the log expires; None if it does not, or there is none.
    expires_ms: int | None
    is_deleted: bool
    #: The settings of its own; None without any.
    retention: Retention | None
    #: Whether Redis knows of it: it has events, settings, or a task.
    is_known: bool


def about(keys: Keys, stream: str) -> Call[About]:
    """What there is to say about a stream."""
    return Call(script("about"), (keys.log(stream), keys.about(stream)), (), _parse_about)


def _parse_about(raw: Sequence[Any]) -> About:
    first, last, closed, length, size, ttl, deleted, keep, most, own_ttl, has_record = raw
    is_deleted = deleted == b"1"
    return About(
        decode_event_id(first) if first else None,
        decode_event_id(last) if last else None,
        closed == b"1",
        length,
        size if size >= 0 else None,
        ttl if ttl >= 0 else None,
        is_deleted,
        _retention(keep, most, own_ttl) if keep else None,
        not is_deleted and (has_record == b"1" or bool(last)),
    )


def _retention(keep: bytes, most: bytes, ttl: bytes) -> Retention:
    return Retention(int(most) or None, int(ttl) or None, cast("Keep", keep.decode()))
