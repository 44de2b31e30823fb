"""Task functions for a Redis that stores nothing for a while."""

from __future__ import annotations

import asyncio
import time

from workers import Context, SyncContext, task

#: Set by tests that run the worker in their own process.
told = asyncio.Event()
#: For how long the function has seen nothing stored: at first, and then.
seen: list[float] = []


@task("emit_for_ever", backoff=0)
async def emit_for_ever(ctx: Context) -> None:
    number = 0
    while True:
        await ctx.emit("number", {"number": number})
        number += 1
        await asyncio.sleep(0.005)


@task("emit_for_ever_in_thread", backoff=0)
def emit_for_ever_in_thread(ctx: SyncContext) -> None:
    """Until it is full, and then it waits in `emit`, where nothing but its context can stop it."""
    number = 0
    while True:
        ctx.emit("number", {"number": number, "filling": "x" * 10_000})
        number += 1
        time.sleep(0.0005)


@task("checkpoint_for_ever", backoff=0)
async def checkpoint_for_ever(ctx: Context) -> None:
    number = 0
    while True:
        await ctx.emit("number", {"number": number})
        await ctx.checkpoint({"number": number})
        number += 1
        await asyncio.sleep(0.005)


@task("look_until_unstored")
async def look_until_unstored(ctx: Context, seconds: float) -> None:
    """Look until nothing was stored for so long."""
    await ctx.emit("waiting")
    while ctx.unstored_seconds:  # noqa: ASYNC110 - as a function would look
        await asyncio.sleep(0.005)
    seen.append(ctx.unstored_seconds)
    while ctx.unstored_seconds < seconds:
        await ctx.emit("looking")
        await asyncio.sleep(0.02)
    seen.append(ctx.unstored_seconds)


@task("end_when_told")
async def end_when_told(ctx: Context) -> str:
    await ctx.emit("waiting")
    await told.wait()
    return "the result"
