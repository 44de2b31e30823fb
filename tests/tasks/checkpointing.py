"""Task functions that keep what they have done."""

from __future__ import annotations

import time
from typing import Any

from workers import Context, SyncContext, task


@task("count_with_checkpoints", backoff=0.05)
async def count_with_checkpoints(ctx: Context, count: int, fail_at: int) -> dict[str, Any]:
    """Emit numbers, with a checkpoint after each second one; fail once, behind a number that is not kept."""
    first = (ctx.restored or {"next": 0})["next"]
    for number in range(first, count):
        await ctx.emit("number", {"number": number})
        if number == fail_at and ctx.attempt == 1:
            raise LookupError("as asked")
        if number % 2:
            await ctx.checkpoint({"next": number + 1})
    return {"restored": ctx.restored}


@task("checkpoint_in_thread")
def checkpoint_in_thread(ctx: SyncContext) -> dict[str, Any]:
    """Keep something, then wait to be lost; the next attempt tells what it got back."""
    if ctx.restored is None:
        ctx.emit("number", {"number": 0})
        ctx.checkpoint([1, "ü", None])
        ctx.emit("void")
        while True:
            time.sleep(0.02)
    return {"restored": ctx.restored}


@task("checkpoint_badly", max_attempts=1)
async def checkpoint_badly(ctx: Context, kind: str) -> None:
    await ctx.checkpoint({"good": True})
    await ctx.checkpoint({1, 2} if kind == "set" else "x" * 100_000)
