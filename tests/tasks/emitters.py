"""Tasks that emit numbered events at a given pace, for tests that count what arrives."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from workers import Context, SyncContext, task

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


@task("emit_many")
async def emit_many(ctx: Context, count: Count, interval_ms: Milliseconds = 0, until: str = "") -> dict[str, Any]:
    """Emit `number` {"number": 0}, {"number": 1} … and pause after each; tell how many.

    Beyond `count` it goes on until the file `until` is there.
    """
    number = 0
    while number < count or _lasts(until):
        await ctx.emit("number", {"number": number})
        await asyncio.sleep(interval_ms / 1000)
        number += 1
    return {"count": number}


@task("emit_many_in_thread")
def emit_many_in_thread(
    ctx: SyncContext, count: Count, interval_ms: Milliseconds = 0, until: str = ""
) -> dict[str, Any]:
    """The same from a thread."""
    number = 0
    while number < count or _lasts(until):
        ctx.emit("number", {"number": number})
        time.sleep(interval_ms / 1000)
        number += 1
    return {"count": number}


def _lasts(until: str) -> bool:
    return bool(until) and not Path(until).exists()
