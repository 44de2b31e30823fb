"""Asking Redis until it answers, for steps that may be repeated and must not be left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from server.streams.errors import LogRefused, LogUnavailable
from server.streams.jitter import jitter

T = TypeVar("T")

#: Quick at first, for a dropped connection; then slow, because every worker does the same when Redis is back.
_BACKOFF_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


def backoff_seconds(failures: int) -> float:
    """How long to wait after that many failures in a row, jittered."""
    return _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1] * jitter.uniform(0.7, 1.3)


async def until_answered(step: Callable[[], Awaitable[T]]) -> T:
    """Repeat `step` while Redis is away, or takes nothing for now. Waits for ever; who has a deadline cancels it.

    Raises `LogRefused`: what Redis never does is not worth waiting for.
    """
    failures = 0
    while True:
        try:
            return await step()
        except LogRefused:
            raise
        except LogUnavailable:
            failures += 1
            await asyncio.sleep(backoff_seconds(failures))
