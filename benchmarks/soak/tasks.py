"""The task that a soak runs again and again."""

from __future__ import annotations

import asyncio

from benchmarks.payload import EVENT_BYTES, filling
from workers import Context, task

EMIT = "soak_emit"


@task(EMIT)
async def emit(ctx: Context, events: int, rate: float) -> dict[str, int]:
    """Emit `events` numbered events at `rate` a second."""
    text = filling(EVENT_BYTES)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(events):
        ahead = began + number / rate - loop.time()
        if ahead > 0:
            await asyncio.sleep(ahead)
        await ctx.emit("token", {"n": number, "text": text})
    return {"emitted": events}
