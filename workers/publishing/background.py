"""A thread with an event loop, for programs without one. One for the process, made when it is first needed.

Invariant: a process uses the one that it made itself. A fork copies no threads, so a child makes its own, and never
touches what it inherited: the sockets are the parent's too. It ends with the process; handles have flushed by then.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from workers.publishing.options import DurabilityName
from workers.publishing.sharing import SharedLane, take_lane

T = TypeVar("T")


class Background:
    """The loop and its thread. Threads may use it at will."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        #: Lanes that stay for the next stream: a program may open one for each of its tasks.
        self._kept: dict[tuple[str, DurabilityName], SharedLane] = {}
        # A daemon: a program must be able to end although it forgot a stream.
        threading.Thread(target=self._loop.run_forever, name="reprise streams", daemon=True).start()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its end. If the waiting is interrupted, it is cancelled."""
        ended = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return ended.result()
        except BaseException:
            ended.cancel()
            raise

    def soon(self, callback: Callable[[], None]) -> None:
        """Have the loop call something."""
        self._loop.call_soon_threadsafe(callback)

    def keep_lane(self, redis_url: str, durability: DurabilityName) -> None:
        """On the loop: keep the connection to that Redis for later streams too."""
        if (redis_url, durability) not in self._kept:
            self._kept[redis_url, durability] = take_lane(redis_url, durability)


class _Process:
    """The background of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Background | None = None
        self._is_hooked = False

    def background(self) -> Background:
        with self._lock:
            if not self._is_hooked:
                os.register_at_fork(after_in_child=self._begin_anew)
                self._is_hooked = True
            if self._current is None:
                self._current = Background()
            return self._current

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        self._current = None


background: Final = _Process().background
