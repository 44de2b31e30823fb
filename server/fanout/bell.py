"""What a ring of the doorbell says. Pure.

The scripts ring with the entries they appended (`ring` in `_prelude.lua`); a foreign writer may ring with anything,
and a batch too large rings without its entries. All of that means "look in the log".
"""

from __future__ import annotations

from server.streams.event import Event, decode_entry
from server.streams.ids import EventId, parse_event_id


def parse_ring(payload: bytes) -> tuple[Event, ...] | None:
    """The events that were appended, or None if the log has to be read to know them."""
    try:
        header, _, body = payload.partition(b"\n")
        first, previous, lost, count = header.split(b" ")
        if not body:
            return None
        return _events(parse_event_id(first.decode()), previous, lost, _whole(count), body)
    except ValueError:
        return None


def _events(first: EventId, previous: bytes, lost: bytes, count: int, body: bytes) -> tuple[Event, ...]:
    events: list[Event] = []
    at = 0
    for offset in range(count):
        end = body.index(b"\n", at)
        event_type, stamp, terminal, size = body[at:end].split(b" ")
        at = end + 1 + _whole(size)
        fields = [b"e", event_type, b"d", body[end + 1 : at], b"t", stamp]
        if offset == 0:
            fields += [name for pair in ((b"p", previous), (b"lost", lost)) if pair[1] != b"-" for name in pair]
        if terminal == b"1":
            fields += [b"z", b"1"]
        events.append(decode_entry(b"%d-%d" % (first.generation, first.sequence + offset), fields))
    if at != len(body):
        raise ValueError
    return tuple(events)


def _whole(digits: bytes) -> int:
    """A size or count. Not a negative one: the parser would go back, and might never end."""
    if not digits.isdigit():
        raise ValueError
    return int(digits)
