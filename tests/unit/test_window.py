"""The window: whatever happens to it, it serves exactly what follows a cursor, or says that it cannot."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.fanout.window import Block, Window
from server.streams.ids import EventId

_MAX_BYTES = 60


class WindowMachine(RuleBasedStateMachine):
    """A model that forgets nothing: every event since the last start, and where that began."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(_MAX_BYTES)
        self.floor: EventId | None = None
        self.events: list[tuple[EventId, bytes]] = []

    @property
    def top(self) -> EventId | None:
        return self.events[-1][0] if self.events else self.floor

    @rule(generation=st.integers(1, 3), sequence=st.integers(0, 3))
    def start(self, generation: int, sequence: int) -> None:
        self.floor, self.events = EventId(generation, sequence), []
        self.window.start(self.floor)

    @rule()
    def clear(self) -> None:
        self.floor, self.events = None, []
        self.window.clear()

    @rule(size=st.integers(1, 80), new_generation=st.booleans(), ends=st.booleans())
    def append(self, size: int, new_generation: bool, ends: bool) -> None:
        if self.top is None:
            return
        found = EventId(self.top.generation + 1, 0) if new_generation else self.top.next()
        frame = str(found).encode().ljust(size, b".")
        self.events.append((found, frame))
        self.window.append(found, frame, ends=ends)
        assert self.window.is_ended == ends

    @rule(data=st.data(), beside=st.sampled_from([-1, 0, 0, 1]))
    def cut_above(self, data: st.DataObject, beside: int) -> None:
        if self.floor is None:
            self.window.cut_above(EventId(1, 0))
            return
        known = data.draw(st.sampled_from([self.floor, *(found for found, _ in self.events)]))
        last = EventId(known.generation, max(known.sequence + beside, 0))
        ended = self.window.is_ended and self.top is not None and last >= self.top
        self.window.cut_above(last)
        self.events = [event for event in self.events if event[0] <= last]
        if self.window.floor is None:  # what is left lies below everything it kept: it may give up altogether
            self.floor, self.events = None, []
        assert self.window.is_ended == (ended and self.floor is not None)

    @rule(generation=st.integers(0, 12), sequence=st.integers(0, 12))
    def ask(self, generation: int, sequence: int) -> None:
        self.check(EventId(generation, sequence))

    @invariant()
    def every_known_cursor_gets_the_exact_suffix_or_none(self) -> None:
        for cursor in [self.floor, *(found for found, _ in self.events)]:
            if cursor is not None:
                self.check(cursor)

    @invariant()
    def the_top_is_known_and_served(self) -> None:
        assert self.window.top == self.top
        if self.top is not None:
            assert self.window.after(self.top) == Block(self.top)

    @invariant()
    def bytes_are_bounded_but_for_one_frame(self) -> None:
        frames = self.window._frames
        assert sum(map(len, frames)) <= _MAX_BYTES or len(frames) == 1
        assert self.window.size == sum(map(len, frames))

    def check(self, cursor: EventId) -> None:
        found = self.window.after(cursor)
        if found is None:
            return
        assert cursor == self.floor or cursor in [event for event, _ in self.events]
        expected = [(event, frame) for event, frame in self.events if event > cursor]
        assert found == Block(self.top or cursor, frames=[frame for _, frame in expected])
        assert found.body == b"".join(frame for _, frame in expected)
        for max_bytes in (1, 40):
            self.check_part(cursor, expected, max_bytes)

    def check_part(self, cursor: EventId, expected: list[tuple[EventId, bytes]], max_bytes: int) -> None:
        part = self.window.after(cursor, max_bytes=max_bytes)
        assert part is not None
        count = len(part.frames)
        assert part.frames == [frame for _, frame in expected[:count]]
        assert part.is_whole == (count == len(expected))
        assert part.cursor == (expected[count - 1][0] if count else cursor)
        assert len(part.body) <= max_bytes or count == 1
        if not part.is_whole:
            assert len(part.body) + len(expected[count][1]) > max_bytes


TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_fits_is_kept_from_the_floor_on():
    window = Window(100)
    window.start(EventId(4, 9))
    for sequence in range(10):
        window.append(EventId(5, sequence), b"x" * 10)
    assert window.after(EventId(4, 9)) == Block(EventId(5, 9), frames=[b"x" * 10] * 10)


def test_a_full_window_gives_up_its_oldest_frames_and_sends_their_cursors_to_the_log():
    window = Window(100)
    window.start(EventId(4, 9))
    for sequence in range(11):
        window.append(EventId(5, sequence), b"x" * 10)
    assert window.after(EventId(4, 9)) is None
    assert window.floor == EventId(5, 3)
    assert window.after(EventId(5, 3)) == Block(EventId(5, 10), frames=[b"x" * 10] * 7)


def test_a_frame_above_the_limit_is_served_alone():
    window = Window(10)
    window.start(EventId(5, 0))
    window.append(EventId(5, 1), b"x" * 100)
    window.append(EventId(5, 2), b"y" * 100)
    assert window.after(EventId(5, 1)) == Block(EventId(5, 2), frames=[b"y" * 100])


def test_a_window_that_was_never_started_serves_nobody():
    assert Window(10).after(EventId(0, 0)) is None
    assert Window(10).top is None
