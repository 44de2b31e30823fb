"""Task functions that say where they want to run."""

from __future__ import annotations

import asyncio

from workers import Context, task


@task("on_gpu", queue="gpu")
async def on_gpu(ctx: Context) -> None:
    """Belongs into a queue of its own."""


@task("one_at_a_time", concurrency=1)
async def one_at_a_time(ctx: Context, seconds: float = 60.0) -> None:
    """Say `waiting`, then wait, where no other does so."""
    await ctx.emit("waiting")
    await asyncio.sleep(seconds)


@task("two_at_a_time", concurrency=2)
async def two_at_a_time(ctx: Context, seconds: float = 60.0) -> None:
    """The same for two."""
    await ctx.emit("waiting")
    await asyncio.sleep(seconds)
