"""Slots of one worker: how many tasks it runs at once, in all and of each type that has a limit of its own.

Invariant: an entry is admitted only if it fits, so neither number is ever exceeded, however many ask for work at once.
Knows nothing of Redis; belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from server.streams.ready import QueueEntry, Room


class Slots:
    """Which entries occupy a slot, and what there is still room for."""

    def __init__(self, concurrency: int, limits: Mapping[str, int | None]) -> None:
        """`limits` has every type that the worker offers; None for one without a limit."""
        self._concurrency = concurrency
        self._limits = limits
        self._busy: set[QueueEntry] = set()
        self._of_type = Counter[str]()
        #: Set while there is room for something.
        self.open = asyncio.Event()
        #: Set when there is room again for a type that had none: whoever waits for others does not see its work.
        self.eased = asyncio.Event()
        self._mind()

    def __len__(self) -> int:
        return len(self._busy)

    def fits(self, entry: QueueEntry) -> bool:
        """Whether the entry may have a slot now."""
        return self.room().of(entry.stream) > 0

    def room(self) -> Room:
        """What may be taken now."""
        limits = {name: max(0, most - self._of_type[name]) for name, most in self._limits.items() if most is not None}
        return Room(max(0, self._concurrency - len(self._busy)), limits)

    def occupy(self, entry: QueueEntry) -> None:
        """Give the entry a slot."""
        self._busy.add(entry)
        self._of_type[entry.task_type] += 1
        self._mind()

    def leave(self, entry: QueueEntry) -> None:
        """Take the slot back. May be called again."""
        if entry not in self._busy:
            return
        was_full = self._of_type[entry.task_type] == self._limits.get(entry.task_type)
        self._busy.discard(entry)
        self._of_type[entry.task_type] -= 1
        self._mind()
        if was_full:
            self.eased.set()

    def _mind(self) -> None:
        room = self.room()
        if room.total > 0 and (not self._limits or any(room.of_type.get(name, 1) for name in self._limits)):
            self.open.set()
        else:
            self.open.clear()
