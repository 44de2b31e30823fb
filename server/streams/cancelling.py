"""Ending asyncio tasks that talk to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

#: A cancellation that was not heard is repeated after this.
_AGAIN_SECONDS: Final = 0.2


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel until it is heard, and wait for the end.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which redis-py has under every command, returns a reply that
    comes in the same moment instead of raising (python/cpython#86296).
    """
    left = {each for each in tasks if not each.done()}
    while left:
        for each in left:
            each.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
