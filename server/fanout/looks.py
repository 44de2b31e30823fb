"""Looks at one stream's log, shared by who asks for the same cursor at about the same time.

Invariant: an answer is handed to a later one only if it would get the same one from the log (`Look.is_lasting`), and
not after `forget`. So a thousand readers that replay a stream after a deploy read each page about once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from server.fanout.continuity import Verdict
from server.fanout.framed import Framed
from server.streams.ids import EventId

#: Readers that come back together keep together; a page that nobody has asked for in this time is read again.
_LASTING_SECONDS: Final = 1.0
#: Per stream; of about 50 KB each, 1 MiB at most.
_MAX_PAGES: Final = 16


@dataclass(slots=True)
class Look(Framed):
    """What one look allows to be delivered, with the frames of its events."""

    verdict: Verdict
    #: Whether somebody who asks a moment later may have the same answer.
    is_lasting: bool = False
    #: Whether nothing was stored behind what it has.
    is_at_end: bool = False

    def reached(self, cursor: EventId) -> EventId:
        """The cursor of a reader that had `cursor` and has taken the events."""
        return self.verdict.events[-1].id if self.verdict.events else cursor


class Looks:
    """Those under way, and the pages that were read lately. Belongs to one event loop."""

    def __init__(self, look: Callable[[EventId], Coroutine[Any, Any, Look]], *, name: str) -> None:
        self._look = look
        self._name = name
        #: Those that may be joined; `_tasks` has all of them, for the event loop keeps no hold of its tasks.
        self._running: dict[EventId, asyncio.Task[Look]] = {}
        self._tasks: set[asyncio.Task[Look]] = set()
        self._pages: OrderedDict[EventId, tuple[float, Look]] = OrderedDict()
        #: Counts what made pages untrue; a look that was begun before is not kept.
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._tasks) + len(self._pages)

    @property
    def is_looking(self) -> bool:
        return bool(self._tasks)

    @property
    def forgotten(self) -> int:
        """Rises with each `forget`."""
        return self._forgotten

    def at(self, cursor: EventId) -> Look | asyncio.Task[Look]:
        """The answer if it is known, or the task that will have it."""
        running = self._running.get(cursor)
        if running is not None:
            return running
        if self._pages:
            found = self._pages.get(cursor)
            if found is not None and asyncio.get_running_loop().time() < found[0]:
                return found[1]
        running = asyncio.create_task(self._look(cursor), name=self._name)
        self._running[cursor] = running
        self._tasks.add(running)
        forgotten = self._forgotten
        running.add_done_callback(lambda done: self._looked(cursor, done, is_true=forgotten == self._forgotten))
        return running

    def forget(self) -> None:
        """Give up every page: the log may not hold them any more, or they may not stand.

        What is under way goes on for those who wait for it. Who asks from now on gets a look that begins now: one that
        began before proves nothing about what has happened since.
        """
        self._forgotten += 1
        self._running.clear()
        self._pages.clear()

    def expire(self) -> None:
        """Free pages that nobody gets any more."""
        now = asyncio.get_running_loop().time()
        while self._pages and next(iter(self._pages.values()))[0] <= now:
            self._pages.popitem(last=False)

    def _looked(self, cursor: EventId, done: asyncio.Task[Look], *, is_true: bool) -> None:
        self._tasks.discard(done)
        if self._running.get(cursor) is done:
            del self._running[cursor]
        if done.cancelled() or done.exception() is not None:
            return  # told to whoever still waits; not to the event loop
        if done.result().is_lasting and is_true:
            self.expire()
            self._pages[cursor] = (asyncio.get_running_loop().time() + _LASTING_SECONDS, done.result())
            while len(self._pages) > _MAX_PAGES:
                self._pages.popitem(last=False)
