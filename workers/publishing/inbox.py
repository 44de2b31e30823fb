"""Events on their way from threads to the event loop that writes them.

To wait for the loop at each event would cost a thread 200 microseconds, mostly for the way there and back; to leave the
event here costs ten. Invariant: events come out in the order in which they were put in, and what was put in is stored
or told to be lost. It holds few: a thread that finds it or the writer full has to wait for the loop.

A thread may be held up, or interrupted for good, between putting an event in and asking the loop to fetch it. So nobody
relies on another thread's asking before it is done, and whatever a thread asks of the loop empties the inbox first.
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
        #: How often it was emptied, and before which time of these the loop was asked to, for certain.
        self._round = 0
        self._asked_round = -1
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
            now = self._round
        if self._asked_round != now:
            self._soon(self.empty)
            # Behind the call: who is interrupted before leaves it to the next one. Too late, it names a round that is
            # over, and the loop is asked once more than it had to be.
            self._asked_round = now
        return True

    def empty(self) -> None:
        """Hand everything to the writer: before anything else that a thread asks for."""
        with self._lock:
            drafts, self._drafts, self._bytes = self._drafts, [], 0
            self._round += 1
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
        self.empty()
        self.check()
        await self._writer.emit(draft)
