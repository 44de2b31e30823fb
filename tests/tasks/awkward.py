"""Task functions that do what task functions should not, and some that only wait."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import Any

from workers import Context, Stopped, SyncContext, task


@task("wait")
async def wait(ctx: Context, seconds: float = 60.0) -> None:
    """Say `waiting`, then wait."""
    await ctx.emit("waiting")
    await asyncio.sleep(seconds)


@task("wait_in_thread")
def wait_in_thread(ctx: SyncContext) -> None:
    """Emit until stopped."""
    while True:
        ctx.emit("waiting")
        time.sleep(0.02)


@task("watch_cancelled")
def watch_cancelled(ctx: SyncContext) -> str:
    """Do nothing but look at the flag."""
    ctx.emit("waiting")
    while not ctx.cancelled:
        time.sleep(0.02)
    return "saw it"


#: Ids of the tasks that may end now, set by tests that run the worker in their own process.
may_end: set[str] = set()
#: And after so long they end all the same: a test that failed has not told them.
_MOST_SECONDS = 60.0


@task("ignore_cancellation")
async def ignore_cancellation(ctx: Context) -> None:
    """Swallow every cancellation and go on emitting."""
    await ctx.emit("waiting")
    ends = time.monotonic() + _MOST_SECONDS
    while ctx.task_id not in may_end and time.monotonic() < ends:
        try:
            await asyncio.sleep(0.05)
            await ctx.emit("still.here")
        except BaseException:  # noqa: BLE001, S112 - this is what it is for
            continue


#: Ids of the tasks whose function was told to leave, and takes its time.
leaving: list[str] = []


@task("leave_slowly")
async def leave_slowly(ctx: Context) -> None:
    """When told to leave, take the time that the test wants."""
    await ctx.emit("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        leaving.append(ctx.task_id)
        ends = time.monotonic() + _MOST_SECONDS
        while ctx.task_id not in may_end and time.monotonic() < ends:  # noqa: ASYNC110 - it is a test that tells it
            await asyncio.sleep(0.01)


@task("block_loop")
async def block_loop(ctx: Context, seconds: float) -> None:
    """Block the worker's event loop."""
    await ctx.emit("blocking")
    await asyncio.sleep(0.1)
    time.sleep(seconds)  # noqa: ASYNC251 - this is what it is for
    await ctx.emit("blocked")


@task("fail")
async def fail(ctx: Context, message: str) -> None:
    raise LookupError(message)


@task("fail_with_odd_text")
async def fail_with_odd_text(ctx: Context) -> None:
    raise ValueError("\ud800 is half a character")


@task("fail_in_thread")
def fail_in_thread(ctx: SyncContext, message: str) -> None:
    raise LookupError(message)


@task("leave")
async def leave(ctx: Context) -> None:
    sys.exit(3)


@task("leave_in_thread")
def leave_in_thread(ctx: SyncContext) -> None:
    sys.exit(3)


@task("cancel_itself")
async def cancel_itself(ctx: Context) -> None:
    raise asyncio.CancelledError


@task("return_what_json_cannot_hold")
async def return_what_json_cannot_hold(ctx: Context) -> Any:
    return {1, 2}


@task("return_much")
async def return_much(ctx: Context, size: int) -> str:
    return "x" * size


@task("emit_once")
async def emit_once(ctx: Context, kind: str, data: Any = None) -> None:
    await ctx.emit(kind, data)


@task("step_through")
async def step_through(ctx: Context, steps: int) -> None:
    """Report progress faster than anybody can see."""
    for step in range(steps + 1):
        await ctx.progress(step, steps)


@task("tell_attempt")
async def tell_attempt(ctx: Context) -> dict[str, Any]:
    return {"task_id": ctx.task_id, "attempt": ctx.attempt, "fence": ctx.fence, "cancelled": ctx.cancelled}


@task("emit_after_the_end")
async def emit_after_the_end(ctx: Context) -> None:
    """Leave an asyncio task behind that emits when the function has returned."""

    async def linger() -> None:
        await asyncio.sleep(0.3)
        with suppress(Stopped):
            await ctx.emit("too late")

    _lingering.add(asyncio.create_task(linger(), name="lingering"))


_lingering: set[asyncio.Task[None]] = set()
