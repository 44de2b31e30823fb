"""Virtual time: an event loop that never sleeps, and the product's clocks set by it.

A timer fires when nothing else is ready, and time jumps to it. So a lease of seconds costs nothing to wait for, and a
schedule runs the same way every time. Redis' clock is substituted in the scripts (`scripts.py`), nothing else of them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from server.streams.outbox import Outbox
from server.streams.shared_writer import SharedWriter

#: Where virtual time begins, ms since epoch: any moment does, as long as ids look like real ones.
EPOCH_MS = 1_800_000_000_000


#: Steps of the event loop without a timer between them; the busiest honest moment has some hundreds.
_MOST_STEPS = 20_000


class _NoWaiting(selectors.BaseSelector):
    """Nothing is ever readable; to wait is to move the clock."""

    def __init__(self, move: Callable[[float], None], give_up: Callable[[], None]) -> None:
        self._move = move
        self._give_up = give_up
        self._steps = 0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "Everything waits for something that cannot come."
        self._steps += 1
        # Every step takes a moment, or a timer that is due this very moment would never be.
        self._move(timeout + 1e-9)
        if timeout > 0:
            self._steps = 0
        if self._steps > _MOST_STEPS:
            self._steps = 0
            self._give_up()
        return []

    def get_map(self) -> Any:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while everybody waits."""

    def __init__(self) -> None:
        self._virtual_now = 1000.0
        #: Cancelled if somebody is busy without end, so that time does not pass.
        self.schedule: asyncio.Task[Any] | None = None
        super().__init__(_NoWaiting(self._pass, self._give_up))

    def _pass(self, seconds: float) -> None:
        self._virtual_now += seconds

    def _give_up(self) -> None:
        if self.schedule:
            self.schedule.cancel()

    def time(self) -> float:
        return self._virtual_now

    @property
    def is_idle(self) -> bool:
        """Whether nothing can happen before time passes (but the caller's own step)."""
        return not self._ready  # type: ignore[attr-defined]


async def settle() -> None:
    """Let everything happen that needs no time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    await asyncio.sleep(0)
    while not loop.is_idle:  # noqa: ASYNC110 - it is the loop itself that is waited for
        await asyncio.sleep(0)


@contextmanager
def product_clocks(loop: VirtualLoop) -> Generator[None]:
    """Have the product read its times from the loop."""
    # asyncio.timeout and sleep ask the loop anyway; these modules ask the machine.
    with (
        patch("server.fanout.subscription.monotonic", loop.time),
        patch("server.fanout.strand.monotonic", loop.time),
        patch("server.fanout.hub.monotonic", loop.time),
        patch("server.fanout.clock.monotonic", loop.time),
        patch("server.fanout.delivery.monotonic", loop.time),
        patch("server.streams.writer.boot_seconds", loop.time),
        patch.dict(Outbox.__init__.__kwdefaults__, {"clock": loop.time}),
        patch.dict(SharedWriter.__init__.__kwdefaults__, {"clock": loop.time}),
    ):
        yield
