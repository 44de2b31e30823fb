"""Searches in a log, against lists: the right place for any log, and in how many reads."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.streams.event import Event
from server.streams.ids import MAX_HALF, ORIGIN, EventId
from server.streams.seek import Search, newest, since


@dataclass
class Entries:
    """What Redis would answer to probes, and how many there were."""

    events: Sequence[Event]
    probes: int = 0

    def run(self, search: Search) -> EventId:
        found: Event | None = None
        try:
            probe = next(search)
            while True:
                self.probes += 1
                if probe.is_backwards:
                    place = bisect_right(self.events, probe.at, key=id_of) - 1
                else:
                    place = bisect_left(self.events, probe.at, key=id_of)
                found = self.events[place] if 0 <= place < len(self.events) else None
                probe = search.send(found)
        except StopIteration as end:
            return end.value


@dataclass
class Million(Sequence[Event]):
    """A million events, of which those are made that are looked at."""

    make: Callable[[int], Event]

    def __len__(self) -> int:
        return 10**6

    @overload
    def __getitem__(self, at: int) -> Event: ...
    @overload
    def __getitem__(self, at: slice) -> list[Event]: ...
    def __getitem__(self, at: int | slice) -> Event | list[Event]:
        numbers = range(len(self))[at]
        return self.make(numbers) if isinstance(numbers, int) else list(map(self.make, numbers))


def id_of(event: Event) -> EventId:
    return event.id


def time_of(event: Event) -> int:
    return event.at_ms or 0


def behind(events: list[Event], cursor: EventId) -> list[Event]:
    return [event for event in events if event.id > cursor]


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Several generations, some of them trimmed at their beginning or with holes; times never go back."""
    events: list[Event] = []
    generation, at_ms = draw(st.integers(0, 2**63)), draw(st.integers(0, 10**13))
    for _ in range(draw(st.integers(0, 5))):
        generation += draw(st.integers(1, 5) | st.integers(1, 10**12))
        sequence = draw(st.integers(0, 3) | st.integers(0, 10**9))
        for _ in range(draw(st.integers(1, 8))):
            at_ms += draw(st.integers(0, 3))
            events.append(Event(EventId(generation, sequence), "t", "", at_ms))
            sequence += draw(st.integers(1, 3))
    return events


@given(logs(), st.data())
def test_since_finds_exactly_the_events_from_the_moment_on(events: list[Event], data: st.DataObject):
    times = [event.at_ms or 0 for event in events] or [0]
    moment_ms = data.draw(st.integers(min(times) - 1, max(times) + 1) | st.integers(0, 10**14))
    found = Entries(events)
    cursor = found.run(since(moment_ms))
    assert behind(events, cursor) == [event for event in events if (event.at_ms or 0) >= moment_ms]
    assert (cursor == ORIGIN) == (not events or times[0] >= moment_ms)
    assert found.probes <= 2 + 64 + 1 + 64


def test_since_of_a_million_events_takes_some_twenty_reads():
    generation = 1_795_343_970_123
    found = Entries(Million(lambda number: Event(EventId(generation, number), "t", "", generation + number)))
    assert found.run(since(generation + 777_777)) == EventId(generation, 777_776)
    assert 18 <= found.probes <= 24


def test_since_among_a_months_generations_takes_some_thirty_reads_more():
    month_ms, now = 30 * 86_400_000, 1_795_343_970_123

    def generation(number: int) -> Event:
        at_ms = now - month_ms + 2_592 * number
        return Event(EventId(at_ms, 0), "t", "", at_ms)

    events = Million(generation)
    found = Entries(events)
    cursor = found.run(since(now - month_ms // 2))
    assert cursor == events[bisect_left(events, now - month_ms // 2, key=time_of) - 1].id
    assert found.probes <= 36


def test_entries_without_a_time_have_that_of_their_generation():
    events = [Event(EventId(generation, 0), "t", "") for generation in (1000, 2000, 3000)]
    assert Entries(events).run(since(2000)) == EventId(1000, 0)
    assert Entries(events).run(since(2001)) == EventId(2000, 0)


@given(logs(), st.integers(1, 60))
@example([Event(EventId(0, 0), "t", "")], 1)
@example([Event(EventId(0, 0), "t", ""), Event(EventId(1, 0), "t", "")], 1)
def test_newest_finds_as_many_events_or_the_beginning(events: list[Event], count: int):
    """By their numbers: what was taken out of the middle of a log counts as if it were there."""
    last = events[-1].id if events else ORIGIN
    cursor = Entries(events).run(newest(count, last))
    counted: list[EventId] = []
    for generation in sorted({event.id.generation for event in events}):
        sequences = [event.id.sequence for event in events if event.id.generation == generation]
        counted += [EventId(generation, number) for number in range(min(sequences), max(sequences) + 1)][-100:]
    if count < len(counted):
        assert [each for each in counted if each > cursor] == counted[-count:]
    else:
        assert cursor == ORIGIN


@pytest.mark.parametrize("count", [32, 1000])
def test_newest_does_not_count_through_thousands_of_generations(count: int):
    events = [Event(EventId(generation, 0), "t", "") for generation in range(1, 5001)]
    found = Entries(events)
    assert len(behind(events, found.run(newest(count, events[-1].id)))) == 32
    assert found.probes <= 64


def test_numbers_at_the_edge_are_no_trouble():
    events = [Event(EventId(MAX_HALF, MAX_HALF), "t", "", 7)]
    assert Entries(events).run(since(8)) == EventId(MAX_HALF, MAX_HALF)
    assert Entries(events).run(newest(1, events[0].id)) == ORIGIN
