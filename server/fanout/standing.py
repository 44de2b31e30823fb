"""Which events of a task stand, by the chain of its current run. Pure.

The newest generation stands. Before it, if its `resume_from` is r, everything that stood up to r; and so on back. What
an attempt left behind after that point is void: late joiners and cursors inside it are led past it
(docs/protocol.md, "Readers").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from server.streams.ids import EventId
from server.streams.records import Chain


@dataclass(frozen=True, slots=True)
class Stretch:
    """The standing events of one generation: from sequence 0 to `last_sequence`, or open at the end."""

    generation: int
    last_sequence: int | None

    @property
    def first(self) -> EventId:
        return EventId(self.generation, 0)

    @property
    def last(self) -> EventId | None:
        return None if self.last_sequence is None else EventId(self.generation, self.last_sequence)


class Standing:
    """The standing events of one run, as stretches in order. Only the last one is open."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        ends = [link.resume_from for link in chain[1:]]
        self.stretches = tuple(
            Stretch(link.generation, end.sequence if end else None) for link, end in zip_longest(chain, ends)
        )
        #: The generation that goes on; None if there is none.
        self.newest = chain[-1].generation if chain else None

    def next_after(self, cursor: EventId) -> EventId | None:
        """The standing id that follows the cursor; None if nothing stands there yet, or the cursor is ahead."""
        for stretch in self.stretches:
            if stretch.generation > cursor.generation:
                return stretch.first
            if stretch.generation == cursor.generation:
                following = cursor.next()
                if stretch.last is None or following <= stretch.last:
                    return following
        return None

    def stretch_of(self, event_id: EventId) -> Stretch | None:
        """The stretch the id lies in; None if it is void."""
        for stretch in self.stretches:
            if stretch.generation == event_id.generation and (stretch.last is None or event_id <= stretch.last):
                return stretch
        return None
