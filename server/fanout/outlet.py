"""Where the blocks of one subscription go, and the one that is asked for them.

An outlet takes a block at once and says whether it can take another; it never waits and never queues. Transports are
outlets of the web layer's; `Pull` is the one for whoever would rather wait for the next block: any ASGI server, tests.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Outlet(Protocol):
    """One reader's way out. Calls come from the event loop; none may raise for what the reader does."""

    def write(self, block: bytes) -> bool:
        """Take a block. False: no more before `Subscription.resume` is called."""
        ...

    def finish(self) -> None:
        """The response is complete; nothing follows."""
        ...

    def abort(self) -> None:
        """Give the reader up: it has taken nothing for too long."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """What was written and the reader's side has not taken; it shrinks while a slow reader reads."""
        ...


class Pull:
    """Holds what was written until it is fetched: one block, and the few words that may follow it at the end."""

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._is_finished = False
        self._changed = asyncio.Event()

    @property
    def unsent_bytes(self) -> int:
        return sum(map(len, self._blocks))

    def write(self, block: bytes) -> bool:
        self._blocks.append(block)
        self._changed.set()
        return False

    def finish(self) -> None:
        self._is_finished = True
        self._changed.set()

    def abort(self) -> None:
        self._blocks.clear()
        self.finish()

    async def next(self) -> bytes | None:
        """The next block; None after the last one."""
        while not self._blocks:
            if self._is_finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._blocks.popleft()
