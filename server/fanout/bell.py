"""What a ring of the doorbell says. Pure.

The scripts ring with the entries they appended (`ring` in `_prelude.lua`); a foreign writer may ring with anything,
and a batch too large rings without its entries. All of that means "look in the log".
Invariant: what a ring brings is what `decode_entry` reads from the log afterwards. Every event of every watched stream
passes here, so what the scripts write is matched as it stands, and nothing is mended.
"""

from __future__ import annotations

import re
from typing import Final

from server.streams.event import Event, normal_text
from server.streams.ids import EventId, decode_event_id

#: One digit less than the largest half of an id has: what counts on from it is an id too. No clock comes near.
_HALF: Final = rb"(?:0|[1-9][0-9]{0,18})"
_ID: Final = _HALF + rb"-" + _HALF
#: "<type> <t> <z> <bytes>\n", followed by the data.
_EVENT: Final = rb"([A-Za-z0-9._:-]{1,128}) (0|[1-9][0-9]{0,14}) ([01]) (0|[1-9][0-9]{0,8})\n"
#: "<first id> <p> <lost> <count>\n" and the first event; a dash where there is no id.
_FIRST: Final = re.compile(rb"(%b)-(%b) (?:-|(%b)) (?:-|(%b)) ([1-9][0-9]{0,8})\n%b" % (_HALF, _HALF, _ID, _ID, _EVENT))
_NEXT: Final = re.compile(_EVENT)


def parse_ring(payload: bytes) -> tuple[Event, ...] | None:
    """The events that were appended, or None if the log has to be read to know them."""
    line = _FIRST.match(payload)
    if line is None:
        return None
    raw_generation, raw_sequence, raw_previous, raw_lost, raw_count, event_type, at_ms, terminal, size = line.groups()
    generation, sequence, left = int(raw_generation), int(raw_sequence), int(raw_count)
    previous = decode_event_id(raw_previous) if raw_previous else None
    lost = decode_event_id(raw_lost) if raw_lost else None
    events: list[Event] = []
    try:
        while True:
            start = line.end()
            end = start + int(size)
            data = payload[start:end].decode()
            events.append(
                Event(
                    EventId(generation, sequence),
                    event_type.decode(),
                    normal_text(data) if "\r" in data else data,
                    int(at_ms),
                    previous,
                    lost,
                    terminal == b"1",
                )
            )
            left -= 1
            if not left:
                return tuple(events) if end == len(payload) else None
            line = _NEXT.match(payload, end)
            if line is None:
                return None
            event_type, at_ms, terminal, size = line.groups()
            previous = lost = None  # of the first one only
            sequence += 1
    except UnicodeDecodeError:
        return None
