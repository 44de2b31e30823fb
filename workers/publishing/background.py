"""A thread with an event loop, for programs without one. One for the process, made when it is first needed.

Invariant: a process uses the one that it made itself. A fork copies no threads, so a child makes its own, and never
touches what it inherited: its sockets and its selector are the parent's too.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from server.streams.errors import StreamClosed
from workers.publishing.sharing import SharedLane, give_back, take_lane

T = TypeVar("T")

_STOP_SECONDS: Final = 5.0


class Background:
    """The loop and its thread. Threads may use it at will."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        #: Lanes that stay for the next stream: a program may open one for each of its tasks.
        self._kept: dict[str, SharedLane] = {}
        self._is_stopped = False
        # A daemon: a program must be able to end although it forgot a stream.
        self._thread = threading.Thread(target=self._loop.run_forever, name="reprise streams", daemon=True)
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its end. If the waiting is interrupted, it is cancelled."""
        if self._is_stopped:
            call.close()
            raise StreamClosed("This process is about to end; no stream can be written any more.")
        ended = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return ended.result()
        except BaseException:
            ended.cancel()
            raise

    def keep_lane(self, redis_url: str) -> None:
        """On the loop: keep the connection to that Redis for later streams too."""
        if redis_url not in self._kept:
            self._kept[redis_url] = take_lane(redis_url)

    def stop(self) -> None:
        """Close the connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._give_back(), self._loop).result(_STOP_SECONDS)
        self._is_stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._loop.close()

    async def _give_back(self) -> None:
        kept, self._kept = self._kept, {}
        for each in kept.values():
            await give_back(each)


class _Process:
    """The background of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Background | None = None
        #: Of parents. Kept for ever: to collect a loop closes its selector, which is the parent's too.
        self._inherited: list[Background] = []
        self._is_hooked = False

    def background(self) -> Background:
        with self._lock:
            if not self._is_hooked:
                os.register_at_fork(after_in_child=self._begin_anew)
                atexit.register(self._stop)
                self._is_hooked = True
            if self._current is None:
                self._current = Background()
            return self._current

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        if self._current:
            self._inherited.append(self._current)
            self._current = None

    def _stop(self) -> None:
        if self._current:
            self._current.stop()


background: Final = _Process().background
