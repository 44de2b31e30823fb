"""Event ids: `<generation>-<sequence>`, which are Redis Stream entry ids.

Owns parsing, formatting and the arithmetic that proves continuity. Ids compare as integer pairs, never as text. Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from server.streams.errors import InvalidCursor

#: Python's `int()` also takes "1_0", " 1" and digits of other scripts, Redis does not; so the text is matched first.
_SHAPE: Final = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})")

#: Both halves stay below 2**64 - 1: Redis has no entry id above it, and nothing could follow one at it.
MAX_HALF: Final = 2**64 - 2


class EventId(NamedTuple):
    """Identity and place of an event. Tuple order is stream order."""

    generation: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.sequence}"

    def next(self) -> EventId:
        """The id that follows within the generation."""
        return EventId(self.generation, self.sequence + 1)

    def before(self) -> EventId:
        """A cursor from which this event is the next one, even if nothing stands there.

        For the first event of a generation it is an id no writer ever uses: the last possible one of the number below.
        """
        if self.sequence:
            return EventId(self.generation, self.sequence - 1)
        return EventId(self.generation - 1, MAX_HALF) if self.generation else ORIGIN

    def continues(self, cursor: EventId) -> bool:
        """Whether arithmetic alone proves that nothing lies between `cursor` and this event."""
        generation, sequence = self
        if sequence:  # as almost always; asked for every event, so without making an id
            return cursor == (generation, sequence - 1)
        return cursor == self.before()


#: The position before the first event of any stream.
ORIGIN: Final = EventId(0, 0)


def parse_event_id(text: str) -> EventId:
    """Parse the text of an id.

    Raises `InvalidCursor` for anything Redis would not write as an entry id.
    Source: https://redis.io/docs/latest/develop/data-types/streams/#entry-ids
    """
    match = _SHAPE.fullmatch(text)
    if match:
        found = EventId(int(match[1]), int(match[2]))
        if max(found) <= MAX_HALF:
            return found
    shown = repr(text if len(text) <= 64 else f"{text[:64]}…")
    raise InvalidCursor(
        f"{shown} is not an event id. Send back an id exactly as it was received, such as '1795343970123-57', "
        "or '0-0' for the beginning."
    )


def decode_event_id(raw: bytes) -> EventId:
    """The id in a reply of Redis, which is trusted to be one."""
    generation, _, sequence = raw.partition(b"-")
    return EventId(int(generation), int(sequence))
