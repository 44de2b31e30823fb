"""Waiting for a condition with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar, cast

T = TypeVar("T")

_POLL_SECONDS = 0.01
#: Far above what anything takes on a busy machine: a deadline costs a test that passes nothing.
_PATIENCE_SECONDS = 30.0


async def wait_until(
    predicate: Callable[[], T] | Callable[[], Awaitable[T]], *, description: str, timeout: float = _PATIENCE_SECONDS
) -> T:
    """Poll `predicate`, plain or async, until it gives something true; return that.

    Past the deadline the test fails with `description`.
    """
    deadline = monotonic() + timeout
    while True:
        found = predicate()
        value = cast("T", await found if inspect.isawaitable(found) else found)
        if value:
            return value
        if monotonic() > deadline:
            raise AssertionError(f"Not within {timeout:g} s: {description} (last value: {value!r}).")
        await asyncio.sleep(_POLL_SECONDS)
