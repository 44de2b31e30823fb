"""Tasks that emit numbered events at a given pace, for tests that count what arrives."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from pydantic import Field

from workers import Context, SyncContext, task

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


@task("emit_many")
async def emit_many(ctx: Context, count: Count, interval_ms: Milliseconds = 0) -> dict[str, Any]:
    """Emit `number` {"number": 0}, {"number": 1} … and pause after each."""
    for number in range(count):
        await ctx.emit("number", {"number": number})
        await asyncio.sleep(interval_ms / 1000)
    return {"count": count}


@task("emit_many_in_thread")
def emit_many_in_thread(ctx: SyncContext, count: Count, interval_ms: Milliseconds = 0) -> dict[str, Any]:
    """The same from a thread."""
    for number in range(count):
        ctx.emit("number", {"number": number})
        time.sleep(interval_ms / 1000)
    return {"count": count}
