"""The window: recent frames of one stream, in memory, for every subscriber that is nearly up to date. Pure.

Invariant: the frames are exactly the events between `floor` (exclusive) and `top` (inclusive), none missing. So a
cursor that is the floor or one of the ids can be served from here; any other goes to the log.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from server.fanout.framed import Framed
from server.streams.ids import EventId

#: Of one write. A transport takes about this much before it says "wait"; more would lie in memory for a slow reader.
BLOCK_BYTES: Final = 65_536


@dataclass(slots=True)
class Block(Framed):
    """Consecutive frames for one write, shared by every subscriber with the same cursor."""

    #: The cursor of a reader that has taken the block.
    cursor: EventId
    #: Whether it reaches the top of the window.
    is_whole: bool = True


class Window:
    """Frames of one stream up to `max_bytes`; the oldest give way."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._ids: list[EventId] = []
        self._frames: list[bytes] = []
        #: For each frame the bytes up to its end, counted from `_begin`, where the first frame begins.
        self._ends: list[int] = []
        self._begin = 0
        #: The last id before the window; None while it is not known what the window would continue.
        self.floor: EventId | None = None
        #: The newest id; the floor if the window holds nothing.
        self.top: EventId | None = None
        #: Whether the stream ends with the newest frame.
        self.is_ended = False
        #: Counts changes: what was taken from the window before one may not be handed out after it.
        self.version = 0

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return self._ends[-1] - self._begin if self._ends else 0

    def start(self, floor: EventId) -> None:
        """Empty the window and let it begin behind `floor`."""
        self.clear()
        self.floor = self.top = floor

    def clear(self) -> None:
        """Empty the window; it serves nobody until it is started."""
        self._ids, self._frames, self._ends, self._begin = [], [], [], 0
        self.floor = self.top = None
        self.is_ended = False
        self.version += 1

    def append(self, event_id: EventId, frame: bytes, *, ends: bool = False) -> None:
        """Add the event that follows `top`; the caller has proved that it does."""
        self._ids.append(event_id)
        self._frames.append(frame)
        end = (self._ends[-1] if self._ends else self._begin) + len(frame)
        self._ends.append(end)
        self.top = event_id
        self.is_ended = ends
        self.version += 1
        if end - self._begin > self._max_bytes:
            self._shrink()

    def cut_above(self, last: EventId) -> None:
        """Drop what lies above `last`: the log no longer holds it, or it no longer stands."""
        if self.floor is None or self.floor > last:
            self.clear()
            return
        keep = bisect_right(self._ids, last)
        if keep < len(self._ids):
            del self._ids[keep:], self._frames[keep:], self._ends[keep:]
            self.top = self._ids[-1] if self._ids else self.floor
            self.is_ended = False
            self.version += 1

    def after(self, cursor: EventId, *, max_bytes: int = BLOCK_BYTES) -> Block | None:
        """What follows the cursor, at least one frame if there is any; None if the window cannot tell."""
        top = self.top
        if top is None:
            return None
        if cursor == top:
            return Block(top)
        if cursor == self.floor:
            first, begin = 0, self._begin
        else:
            first = self._place_behind(cursor)
            if first is None:
                return None
            begin = self._ends[first - 1]
        if self._ends[-1] - begin <= max_bytes:
            return Block(top, frames=self._frames[first:])
        last = max(bisect_right(self._ends, begin + max_bytes, lo=first), first + 1)
        return Block(self._ids[last - 1], frames=self._frames[first:last], is_whole=last == len(self._ids))

    def _place_behind(self, cursor: EventId) -> int | None:
        ids = self._ids
        place = len(ids) - 2  # of a subscriber that lacks the newest event only, as most who rest do
        if place < 0 or ids[place] != cursor:
            place = bisect_left(ids, cursor)
            if place == len(ids) or ids[place] != cursor:
                return None
        return place + 1

    def _shrink(self) -> None:
        # To three quarters at once: removing from the front of a list costs as much as what stays.
        excess = self._ends[-1] - self._max_bytes * 3 // 4
        drop = min(bisect_left(self._ends, excess) + 1, len(self._ids) - 1)
        if drop:
            self.floor, self._begin = self._ids[drop - 1], self._ends[drop - 1]
            del self._ids[:drop], self._frames[:drop], self._ends[:drop]
