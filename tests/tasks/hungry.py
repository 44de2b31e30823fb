"""Task functions that take memory without end, in pieces large or small."""

from __future__ import annotations

import asyncio

from workers import Context, SyncContext, task


@task("eat_memory", backoff=0.05)
async def eat_memory(ctx: Context, piece_bytes: int) -> None:
    """Keep everything. Pieces of some hundred bytes leave nothing at all for whoever has to tell of the error."""
    await ctx.emit("eating")
    await asyncio.sleep(0.1)
    eaten: list[bytearray] = []
    while True:
        eaten.append(bytearray(piece_bytes))


@task("eat_memory_in_thread", backoff=0.05)
def eat_memory_in_thread(ctx: SyncContext, piece_bytes: int) -> None:
    """The same from a thread, beside a running event loop."""
    ctx.emit("eating")
    eaten: list[bytearray] = []
    while True:
        eaten.append(bytearray(piece_bytes))
