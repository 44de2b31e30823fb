"""Marks of events: what a reader who comes late needs to be shown fewer of them. Pure.

An event may have one. `k`, its key: of events with the same key the latest says it all. `a`, the name of the one member
of its data, a text, which continues that of the event before it if that has the same type and mark. Both are fields of
the entry, so any writer may set them (docs/protocol.md, "Marks"). A `token` whose data is `{"text": ...}` and nothing
else continues without a mark: every task emits those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from server.streams.errors import InvalidInput
from server.streams.event import Draft, check_text, draft
from server.streams.ids import EventId, decode_event_id

#: Somebody's id, a path or a name fits; one is kept with each event.
LONGEST_KEY: Final = 128
#: The member of data in which `append` sends its text.
TEXT: Final = "text"

KEY_FIELD: Final = "k"
APPEND_FIELD: Final = "a"


class Mark(NamedTuple):
    """A field of the entry and its value."""

    field: Literal["k", "a"]
    value: str


@dataclass(frozen=True, slots=True)
class Marked(Draft):
    """A draft whose entry has a mark."""

    mark: Mark


def check_key(found: object) -> str:
    """Return what may be the key of an event; raise `InvalidInput` otherwise."""
    if isinstance(found, str) and 0 < len(found) <= LONGEST_KEY and found.isprintable():
        return found
    shown = repr(found[:64] if isinstance(found, str) else found)
    raise InvalidInput(f"{shown:.80} is not the key of an event. Use 1 to {LONGEST_KEY} printable characters.")


def keyed(event: Draft, key: str) -> Marked:
    """The event with a key. Raises `InvalidInput`."""
    return Marked(event.type, event.data, Mark(KEY_FIELD, check_key(key)))


def continuing(event_type: str, text: str, *, max_bytes: int) -> Marked:
    """An event that continues the text of the one before it. Raises `InvalidInput`, and `TooLarge`."""
    found = draft(event_type, {TEXT: check_text(text, what="What is to be appended")}, max_bytes=max_bytes)
    return Marked(found.type, found.data, Mark(APPEND_FIELD, TEXT))


def mark_of(fields: Mapping[bytes, bytes]) -> Mark | None:
    """The mark in the fields of an entry; what a foreign writer got wrong is none."""
    key, member = fields.get(b"k"), fields.get(b"a")
    if key is not None:
        text = key.decode(errors="replace")
        return Mark(KEY_FIELD, text) if 0 < len(text) <= LONGEST_KEY else None
    return Mark(APPEND_FIELD, member.decode(errors="replace")) if member else None


def marks_of(rows: Iterable[tuple[bytes, Sequence[bytes]]]) -> dict[EventId, Mark]:
    """The marks of those entries of an XRANGE reply in RESP2 shape that have one."""
    found = ((raw_id, mark_of(dict(zip(fields[::2], fields[1::2], strict=True)))) for raw_id, fields in rows)
    return {decode_event_id(raw_id): mark for raw_id, mark in found if mark is not None}
