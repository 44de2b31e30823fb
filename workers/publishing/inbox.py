"""Events on their way from threads to the event loop that writes them.

To wait for the loop at each event would cost a thread 200 microseconds, mostly for the way there and back; to leave the
event here costs ten. Invariant: events come out in the order in which they were put in, and what was put in is stored
or told to be lost. It holds few: a thread that finds it or the writer full has to wait for the loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from server.streams.errors import StreamsError
from server.streams.event import Draft
from server.streams.shared_writer import SharedWriter

_log = logging.getLogger(__name__)

#: What the writer's bound may be exceeded by.
_MOST_EVENTS: Final = 500
_MOST_BYTES: Final = 1 << 18


class Inbox:
    """Of one handle. `put` is for any thread, the rest for the loop."""

    def __init__(self, writer: SharedWriter, soon: Callable[[Callable[[], None]], None]) -> None:
        self._writer = writer
        self._soon = soon
        self._lock = threading.Lock()
        self._drafts: list[Draft] = []
        self._bytes = 0
        #: Set if the writer refused what had been put in.
        self._failure: StreamsError | None = None

    def put(self, draft: Draft) -> bool:
        """Take an event in; False if there is no room, or no stream any more: the loop has to be asked then."""
        if not self._writer.has_room or self._failure:
            return False
        with self._lock:
            if len(self._drafts) >= _MOST_EVENTS or self._bytes >= _MOST_BYTES:
                return False
            self._drafts.append(draft)
            self._bytes += len(draft.data)
            is_first = len(self._drafts) == 1
        if is_first:
            self._soon(self._empty)  # whatever this thread asks of the loop next comes behind it
        return True

    def _empty(self) -> None:
        """Hand everything to the writer."""
        with self._lock:
            drafts, self._drafts, self._bytes = self._drafts, [], 0
        drafts.reverse()
        try:
            while drafts:
                self._writer.put(drafts[-1])
                drafts.pop()
        except StreamsError as error:
            self._failure = error
            # Its thread hears of it at its next call; here for the case that there is none.
            _log.warning("%d event(s) that a thread had emitted are lost: %s", len(drafts), error)

    def check(self) -> None:
        """Raise if the writer refused what had been put in."""
        if self._failure:
            raise self._failure

    async def emit(self, draft: Draft) -> None:
        """Put an event behind all others, and wait for room."""
        self.check()
        await self._writer.emit(draft)
