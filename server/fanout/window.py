"""The window: recent frames of one stream, in memory, for every subscriber that is nearly up to date. Pure.

Invariant: the frames are exactly the events between `floor` (exclusive) and `top` (inclusive), none missing. So a
cursor that is the floor or one of the ids can be served from here; any other goes to the log.
"""

from __future__ import annotations

from bisect import bisect_left

from server.streams.ids import EventId


class Window:
    """Frames of one stream up to `max_bytes`; the oldest give way."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._ids: list[EventId] = []
        self._frames: list[bytes] = []
        #: The last id before the window; None while it is not known what the window would continue.
        self.floor: EventId | None = None
        #: Whether the stream ends with the newest frame.
        self.is_ended = False

    @property
    def top(self) -> EventId | None:
        """The newest id; the floor if the window holds nothing."""
        return self._ids[-1] if self._ids else self.floor

    def start(self, floor: EventId) -> None:
        """Empty the window and let it begin behind `floor`."""
        self.clear()
        self.floor = floor

    def clear(self) -> None:
        """Empty the window; it serves nobody until it is started."""
        self._ids, self._frames, self._bytes = [], [], 0
        self.floor = None
        self.is_ended = False

    def append(self, event_id: EventId, frame: bytes, *, ends: bool = False) -> None:
        """Add the event that follows `top`; the caller has proved that it does."""
        self._ids.append(event_id)
        self._frames.append(frame)
        self._bytes += len(frame)
        self.is_ended = ends
        if self._bytes > self._max_bytes:
            self._shrink()

    def cut_above(self, last: EventId) -> None:
        """Drop what lies above `last`: the log no longer holds it, or it no longer stands."""
        if self.floor is None or self.floor > last:
            self.clear()
            return
        keep = bisect_left(self._ids, last)
        if keep < len(self._ids) and self._ids[keep] == last:
            keep += 1
        if keep < len(self._ids):
            self._bytes -= sum(map(len, self._frames[keep:]))
            del self._ids[keep:], self._frames[keep:]
            self.is_ended = False

    def after(self, cursor: EventId) -> tuple[list[bytes], EventId] | None:
        """The frames behind the cursor and the cursor after them; None if the window cannot tell."""
        top = self.top
        if top is None:
            return None
        if cursor == top:
            return [], top
        if cursor == self.floor:
            return self._frames[:], top
        place = bisect_left(self._ids, cursor)
        if place == len(self._ids) or self._ids[place] != cursor:
            return None
        return self._frames[place + 1 :], top

    def _shrink(self) -> None:
        # To three quarters at once: removing from the front of a list costs as much as what stays.
        drop = 0
        while self._bytes > self._max_bytes * 3 // 4 and drop < len(self._ids) - 1:
            self._bytes -= len(self._frames[drop])
            drop += 1
        if drop:
            self.floor = self._ids[drop - 1]
            del self._ids[:drop], self._frames[:drop]
