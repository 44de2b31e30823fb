"""Task functions that do what their script says, as coroutine and in a thread: all of the suite that workers run."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from tests.chaos.truth import AS_TOLD, NUMBER, payload, result
from workers import Context, SyncContext, TaskError, task

#: More than there are faults for: a task that gives up would leave nothing to check.
_ATTEMPTS = 60
_BACKOFF_SECONDS = 0.3


@task("chaos", max_attempts=_ATTEMPTS, backoff=_BACKOFF_SECONDS)
async def chaos(
    ctx: Context,
    key: str,
    events: int,
    pause_ms: int,
    checkpoint_every: int,
    fail_at: list[int],
    ends: str,
    ballast: int,
) -> dict[str, Any]:
    """Emit numbers from where the last checkpoint was."""
    for number in range(ctx.restored or 0, events):
        _fail_if_told(ctx.attempt, number, fail_at)
        await ctx.emit(NUMBER, payload(key, number, ballast) | {"pid": os.getpid()})
        if checkpoint_every and number % checkpoint_every == checkpoint_every - 1:
            await ctx.checkpoint(number + 1)
        await asyncio.sleep(pause_ms / 1000)
    return _end(key, events, ends)


@task("chaos_in_thread", max_attempts=_ATTEMPTS, backoff=_BACKOFF_SECONDS)
def chaos_in_thread(
    ctx: SyncContext,
    key: str,
    events: int,
    pause_ms: int,
    checkpoint_every: int,
    fail_at: list[int],
    ends: str,
    ballast: int,
) -> dict[str, Any]:
    """The same from a thread."""
    for number in range(ctx.restored or 0, events):
        _fail_if_told(ctx.attempt, number, fail_at)
        ctx.emit(NUMBER, payload(key, number, ballast) | {"pid": os.getpid()})
        if checkpoint_every and number % checkpoint_every == checkpoint_every - 1:
            ctx.checkpoint(number + 1)
        time.sleep(pause_ms / 1000)
    return _end(key, events, ends)


def _fail_if_told(attempt: int, number: int, fail_at: list[int]) -> None:
    if attempt <= len(fail_at) and number == fail_at[attempt - 1]:
        raise LookupError(AS_TOLD)


def _end(key: str, events: int, ends: str) -> dict[str, Any]:
    if ends == "error":
        raise TaskError(AS_TOLD)
    return result(key, events)
