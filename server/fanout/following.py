"""Telling Redis that a task's readers have come or gone, for tasks that are cancelled when nobody follows them.

Belongs to one process. Invariant: at most one leaving of each stream is pending; who comes or leaves anew calls it off.
What it fails to do, because Redis is away or the process ends, the reaper of any server does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from server.streams.cancelling import cancel_all
from server.streams.errors import LogUnavailable
from server.streams.presence import Presence

Work = Callable[[str], Awaitable[None]]

_log = logging.getLogger(__name__)

#: The doorbell's connection has told Redis by then that nobody listens here.
_UNHEARD_SECONDS: Final = 0.3


class Following:
    """Does in the background what each coming and going asks for."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._running: set[asyncio.Task[None]] = set()
        #: By stream: what waits to note, and then to judge, that nobody follows it.
        self._leaving: dict[str, asyncio.Task[None]] = {}

    def came(self, stream: str) -> None:
        """The first reader of this process has come."""
        self._call_off(stream)
        self._start(self._presence.came, stream, f"reader of {stream} came")

    def left(self, stream: str) -> None:
        """The last reader of this process has left."""
        self._call_off(stream)
        self._leaving[stream] = leaving = self._start(self._leave, stream, f"reader of {stream} left")
        leaving.add_done_callback(lambda done: self._forget(stream, done))

    async def close(self) -> None:
        await cancel_all(self._running)

    async def _leave(self, stream: str) -> None:
        await asyncio.sleep(_UNHEARD_SECONDS)
        await self._presence.left(stream)
        await asyncio.sleep(self._presence.grace_seconds + _UNHEARD_SECONDS)
        # From here on nobody calls it off: a cancellation cut in two would be told by the reaper only. One that was
        # called off before, and did not hear it (see `cancel_all`), goes no further either.
        if self._forget(stream, asyncio.current_task()):
            await self._presence.judge_stream(stream)

    def _call_off(self, stream: str) -> None:
        leaving = self._leaving.pop(stream, None)
        if leaving:
            leaving.cancel()

    def _forget(self, stream: str, leaving: asyncio.Task[None] | None) -> bool:
        """Whether it was the one that is pending."""
        is_pending = self._leaving.get(stream) is leaving
        if is_pending:
            self._leaving.pop(stream, None)
        return is_pending

    def _start(self, work: Work, stream: str, name: str) -> asyncio.Task[None]:
        running = asyncio.create_task(_quietly(work, stream), name=name)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running


async def _quietly(work: Work, stream: str) -> None:
    try:
        await work(stream)
    except LogUnavailable as error:
        _log.debug("A reader's coming or going was not noted: %s", error)
