"""Finding a place in a log without reading it: since a moment, or so many events before the end. Pure.

Theory of operation
-------------------
1. A search is a generator. It yields `Probe`s, each for one entry, and is sent what was found; it returns a cursor.
   Whoever runs it reads single entries (XRANGE or XREVRANGE with COUNT 1), one for each probe.
2. Ids order a log, and times follow that order as far as clocks do. So the first entry at or after a moment is found by
   halving: first the generation in which it lies, among the numbers that generations can have, then the sequence in
   it. Numbers are halved and not entries: any guessed id is answered with the first entry at or behind it. 2^64
   numbers take 64 steps; a month of generations takes 32, a million events 20.
3. The answer is a cursor from which the event found is the next one. Where nothing before it is left, it is `ORIGIN`,
   the beginning: then the reader is told whether anything was trimmed there.
4. An entry of a foreign writer may have no time; then its generation says when, for that is made of a clock.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias

from server.streams.event import Event
from server.streams.ids import MAX_HALF, ORIGIN, EventId

#: Generations that `newest` counts through. A generation is a restart or failover of Redis, or a run of a writer; where
#: there are thousands, each is an event of a program that lets Redis number them, and nobody wants to wait for those.
_MOST_GENERATIONS: Final = 32


class Probe(NamedTuple):
    """Asks for one entry: the first at or behind `at`, or the last at or before it."""

    at: EventId
    is_backwards: bool = False


Search: TypeAlias = Generator[Probe, Event | None, EventId]

_LAST: Final = EventId(MAX_HALF, MAX_HALF)


def since(moment_ms: int) -> Search:
    """The cursor behind which everything since the moment lies; the log's end if there is nothing."""
    first = yield Probe(ORIGIN)
    last = yield Probe(_LAST, is_backwards=True)
    if first is None or last is None or _time(first) >= moment_ms:
        return ORIGIN
    if _time(last) < moment_ms:
        return last.id
    before = yield from _last_opening_before(moment_ms, first, last.id.generation)
    # `before` is too early. Whatever comes in time is of its generation, or the first of the next one.
    end = yield Probe(EventId(before.id.generation, MAX_HALF), is_backwards=True)
    if end is None or _time(end) < moment_ms:
        return end.id if end else ORIGIN
    low, high = before.id.sequence, end.id.sequence  # `low` is too early, `high` is not
    while high - low > 1:
        found = yield Probe(EventId(end.id.generation, (low + high) // 2))
        if found is None or found.id > end.id or _time(found) >= moment_ms:
            high = (low + high) // 2
        else:
            low = found.id.sequence
    return EventId(end.id.generation, low)


def newest(count: int, last: EventId) -> Search:
    """The cursor behind which the newest `count` events lie, `last` being the last id; `ORIGIN` if there are fewer."""
    for _ in range(_MOST_GENERATIONS):
        first = yield Probe(EventId(last.generation, 0))
        if first is None or first.id > last:
            return ORIGIN
        held = last.sequence - first.id.sequence + 1
        if held > count:
            return EventId(last.generation, last.sequence - count)
        count -= held
        if last.generation == 0:
            return ORIGIN
        earlier = yield Probe(EventId(last.generation - 1, MAX_HALF), is_backwards=True)
        if earlier is None:
            return ORIGIN
        if count == 0:
            return earlier.id
        last = earlier.id
    return last


def _last_opening_before(moment_ms: int, first: Event, highest: int) -> Generator[Probe, Event | None, Event]:
    """The first entry of the last generation that begins before the moment. `first` is before it."""
    low, high = first, highest + 1
    while high - low.id.generation > 1:
        middle = (low.id.generation + high) // 2
        found = yield Probe(EventId(middle, 0))
        if found is None or _time(found) >= moment_ms:
            high = middle
        else:
            low = found
    return low


def _time(event: Event) -> int:
    return event.id.generation if event.at_ms is None else event.at_ms
