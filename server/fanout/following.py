"""Telling Redis that a task's readers have come or gone, for tasks that are cancelled when nobody follows them.

Belongs to one process. What it fails to do, because Redis is away or the process ends, the reaper of any server does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from server.streams.cancelling import cancel_all
from server.streams.errors import LogUnavailable
from server.streams.presence import Presence

_log = logging.getLogger(__name__)

#: The doorbell's connection has told Redis by then that nobody listens here.
_UNHEARD_SECONDS: Final = 0.3


class Following:
    """Does in the background what each coming and going asks for."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._running: set[asyncio.Task[None]] = set()

    def came(self, stream: str) -> None:
        """The first reader of this process has come."""
        self._start(self._presence.came(stream), f"reader of {stream} came")

    def left(self, stream: str) -> None:
        """The last reader of this process has left."""
        self._start(self._leave(stream), f"reader of {stream} left")

    async def close(self) -> None:
        await cancel_all(self._running)

    async def _leave(self, stream: str) -> None:
        await asyncio.sleep(_UNHEARD_SECONDS)
        await self._presence.left(stream)
        await asyncio.sleep(self._presence.grace_seconds + _UNHEARD_SECONDS)
        await self._presence.judge_stream(stream)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        running = asyncio.create_task(_quietly(work), name=name)
        self._running.add(running)
        running.add_done_callback(self._running.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except LogUnavailable as error:
        _log.debug("A reader's coming or going was not noted: %s", error)
