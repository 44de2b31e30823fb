"""What both kinds of handle share: opening, checking events, and what is promised at the end.

Invariant: a handle is used in the process that opened it; at its end what was emitted is stored, or the caller is told.
`enter`, `leave` and the writer belong to one event loop, the rest to any thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Final

from server.streams.calls import Lifetimes
from server.streams.enlistment import Enlistment
from server.streams.errors import StreamClosed, StreamsError
from server.streams.event import COMPLETE, ERROR, Draft, check_size, check_text, draft, encode_json
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lanes import Lanes
from server.streams.marks import continuing, keyed
from server.streams.shared_writer import SharedWriter
from workers.publishing.options import StreamOptions
from workers.publishing.sharing import SharedLane, give_back, take_lane

_log = logging.getLogger(__name__)

#: After an exception its handler should run soon, not after the whole patience.
_HURRIED_FLUSH_SECONDS: Final = 5.0


class Handle:
    """One use of one stream."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._shared: SharedLane | None = None
        self._writer: SharedWriter | None = None
        self._process = 0
        self._keys = Keys(options.prefix)
        #: What puts the stream on the list of streams.
        self._enlistment: Enlistment | None = None

    @property
    def name(self) -> str:
        return self._options.name

    @property
    def last_id(self) -> str | None:
        found = self._writer.last_id if self._writer else None
        return str(found) if found else None

    @property
    def is_open_here(self) -> bool:
        """Whether this process opened it, and has not left it yet."""
        return self._shared is not None and self._process == os.getpid()

    @property
    def writer(self) -> SharedWriter:
        """Raises `StreamClosed` if it was not opened, or not in this process."""
        if self._writer is None:
            raise StreamClosed(f"The stream {self.name!r} is not open yet. Use the handle in a `with` block.")
        if self._process != os.getpid():
            raise StreamClosed(
                f"The handle to the stream {self.name!r} was opened in process {self._process} and carried over a fork "
                f"into process {os.getpid()}. Open the stream after the fork; in Celery, inside the task."
            )
        return self._writer

    def enter(self) -> None:
        """Begin to write. Raises `StreamClosed` if it has begun."""
        if self.is_open_here:
            raise StreamClosed(f"This handle to the stream {self.name!r} is open already. Open the stream once more.")
        options = self._options
        self._shared = shared = take_lane(options.redis_url, options.durability)
        self._process = os.getpid()
        self._writer = SharedWriter(
            shared.lane,
            self._keys,
            options.name,
            lifetimes=Lifetimes(retention_ms=int(options.retention_seconds * 1000)),
            max_events=options.max_events,
            max_bytes=options.max_stream_bytes,
            patience_seconds=options.patience_seconds,
            on_generation=lambda: self._list(shared.lane),
        )

    async def leave(self, *, is_failing: bool) -> None:
        """Store what was taken in, and end. With an exception on its way what fails here must not take its place."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        writer = self.writer
        try:
            if is_failing:
                await self._flush_soon(writer)
            else:
                await writer.flush()
        finally:
            writer.close()
            if self._enlistment:
                await self._enlistment.finished(within_seconds=_HURRIED_FLUSH_SECONDS)
            await give_back(shared)

    def draft(self, type: str, data: Any, key: str | None = None) -> Draft:
        found = draft(type, data, max_bytes=self._options.max_event_bytes)
        return found if key is None else keyed(found, key)

    def continuation(self, type: str, text: str) -> Draft:
        return continuing(type, text, max_bytes=self._options.max_event_bytes)

    def completion(self, result: Any) -> Draft:
        return self._terminal(COMPLETE, {"result": result})

    def failure(self, error: str, code: str) -> Draft:
        check_text(error, what="The error of a failed stream")
        check_text(code, what="The code of a failed stream")
        return self._terminal(ERROR, {"error": error, "code": code})

    def _terminal(self, type: str, data: dict[str, Any]) -> Draft:
        text = encode_json(data, what=f"The data of {type!r}")
        return Draft(type, check_size(text, max_bytes=self._options.max_event_bytes))

    def _list(self, lane: Lane | Lanes) -> None:
        """Put the stream on the list of streams, beside what is being written."""
        self._enlistment = Enlistment(lane, self._keys, self.name)
        self._enlistment.begin()

    async def _flush_soon(self, writer: SharedWriter) -> None:
        try:
            async with asyncio.timeout(_HURRIED_FLUSH_SECONDS):
                await writer.flush()
        except TimeoutError:
            _log.warning("The last events of the stream %s are given up: an exception ended its writer", self.name)
        except StreamsError as error:
            _log.warning("The last events of the stream %s are not stored: %s", self.name, error)
