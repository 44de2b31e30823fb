"""What a writer has still to send, and what it may have to send again. Sans-IO.

Theory of operation
-------------------
1. The writer numbers its events itself: `<its generation>-0, 1, 2 …`. Number 0 is the `attempt` its claim wrote.
2. `stored` is the last id known to be in the log. Everything above it is unsent, or sent with the reply outstanding.
3. An append says which last id it expects. A reply that never came is not a failure: the next append is refused with
   the log's real last id, and its place tells what happened:

       mine, above stored       the batch, or its first part, was stored; its reply was lost
       mine, never written      a zombie of the same generation cannot be, so the id was forged: fenced
       higher generation        a successor has begun: fenced
       lower, or no log         Redis lost what it had acknowledged: repair

4. To repair, events are kept after they were stored: about the last ten seconds, because a failover loses about the
   last second and an append-only file the last two. The newest stored event is always kept, so that a log that was
   deleted under a quiet task gets its end back, and with it the last id on which the next append relies.
5. Repair sends all that is kept under the ids it had. What is older is a gap, and readers are told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from enum import Enum
from time import monotonic
from typing import Final

from server.streams.calls import Batch, Reply
from server.streams.event import Draft
from server.streams.ids import EventId

#: A thousand events hold Redis up for 1.8 ms; ten thousand for 24.
MAX_BATCH_EVENTS: Final = 1000
MAX_BATCH_BYTES: Final = 1 << 20

_KEEP_SECONDS: Final = 10.0
_KEEP_EVENTS: Final = 4096
_KEEP_BYTES: Final = 8 << 20


def first_of(unsent: Collection[Draft], size: int) -> list[Draft]:
    """The first events, up to the limits of one script call. `size` is that of all data together."""
    if len(unsent) <= MAX_BATCH_EVENTS and size <= MAX_BATCH_BYTES:
        return list(unsent)
    drafts: list[Draft] = []
    size = 0
    for draft in unsent:
        size += len(draft.data)
        if drafts and (len(drafts) == MAX_BATCH_EVENTS or size > MAX_BATCH_BYTES):
            break
        drafts.append(draft)
    return drafts


class Conclusion(Enum):
    """What a reply means to the writer."""

    STORED = "stored"
    REPAIR = "repair"
    FENCED = "fenced"


class Outbox:
    """Events of one generation between the writer and the log. One caller at a time; never blocks."""

    def __init__(self, generation: int, opening: Draft, *, clock: Callable[[], float] = monotonic) -> None:
        self.generation = generation
        self._clock = clock
        #: The last id known to be in the log.
        self.stored = EventId(generation, 0)
        #: Stored events that are kept, oldest first; `_first` is the sequence of the first one.
        self._kept: deque[Draft] = deque([opening])
        self._first = 0
        #: What follows `stored`, oldest first.
        self._unsent: deque[Draft] = deque()
        #: (sequence, when it was found stored), one mark per reply.
        self._marks: deque[tuple[int, float]] = deque([(0, clock())])
        self._kept_bytes = len(opening.data)
        self.unsent_bytes = 0
        #: Whether the last event is terminal; nothing can be added behind it.
        self.is_closed = False

    @property
    def last_id(self) -> EventId:
        """The last id given out."""
        return EventId(self.generation, self.stored.sequence + len(self._unsent))

    @property
    def unsent(self) -> int:
        """How many events are not known to be stored."""
        return len(self._unsent)

    def add(self, draft: Draft, *, is_terminal: bool = False) -> EventId:
        """Take an event in and give it its id."""
        if self.is_closed:
            raise RuntimeError("The stream has its terminal event already.")
        self._unsent.append(draft)
        self.unsent_bytes += len(draft.data)
        self.is_closed = is_terminal
        return EventId(self.generation, self.stored.sequence + len(self._unsent))

    def next_batch(self) -> Batch:
        """What to append now, up to the limits of one script call; an empty batch only probes."""
        drafts = first_of(self._unsent, self.unsent_bytes)
        is_terminal = self.is_closed and 0 < len(drafts) == len(self._unsent)
        return Batch(self.generation, self.stored.sequence + 1, drafts, is_terminal=is_terminal)

    def repair_batch(self) -> Batch:
        """Everything kept that was stored once."""
        return Batch(self.generation, self._first, list(self._kept), is_terminal=self.is_closed and not self._unsent)

    def conclude(self, batch: Batch, reply: Reply) -> Conclusion:
        """Note what the reply to `batch` proves."""
        if reply.outcome == "stored":
            self._note_stored(batch.first_sequence + len(batch.drafts) - 1)
            return Conclusion.STORED
        if reply.outcome == "differs" and self.stored < reply.id <= self.last_id:
            self._note_stored(reply.id.sequence)
            return Conclusion.STORED
        if reply.outcome == "closed" and reply.id == self.stored == self.last_id:
            return Conclusion.STORED
        if reply.outcome == "lost" or (reply.outcome == "differs" and reply.id < self.stored):
            return Conclusion.REPAIR
        return Conclusion.FENCED

    def _note_stored(self, last: int) -> None:
        """Everything up to this sequence is stored."""
        count = last - self.stored.sequence
        if count > 0:
            size = 0
            for _ in range(count):
                draft = self._unsent.popleft()
                size += len(draft.data)
                self._kept.append(draft)
            self.unsent_bytes -= size
            self._kept_bytes += size
            self.stored = EventId(self.generation, last)
        now = self._clock()
        self._marks.append((self.stored.sequence, now))
        while self._marks[0][1] < now - _KEEP_SECONDS:
            self._drop_below(self._marks.popleft()[0] + 1)
        while len(self._kept) > 1 and (len(self._kept) > _KEEP_EVENTS or self._kept_bytes > _KEEP_BYTES):
            self._drop_below(self._first + 1)

    def _drop_below(self, sequence: int) -> None:
        while self._first < min(sequence, self.stored.sequence):
            self._kept_bytes -= len(self._kept.popleft().data)
            self._first += 1
