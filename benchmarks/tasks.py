"""The task functions that write the benchmark's events, run by a real `reprise worker --tasks benchmarks.tasks`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.gate import Barrier
from benchmarks.load.spec import Emission
from benchmarks.payload import EVENT_BYTES, filling, members
from workers import Context, task

PACED = "benchmark_paced"
UNPACED = "benchmark_unpaced"


@task(PACED)
async def paced(
    ctx: Context,
    gate: str,
    *,
    stream: int,
    streams: int,
    events: int,
    rate: float,
    event_bytes: int = EVENT_BYTES,
    preload: int = 0,
    preload_bytes: int = EVENT_BYTES,
) -> dict[str, Any]:
    """Wait at the gate, then emit `events` numbered events at `rate` a second; 0 for one after the other."""
    text = filling(preload_bytes)
    for number in range(preload):
        await ctx.emit("token", members(number, time.monotonic_ns(), text))
    text = filling(event_bytes)
    emission = Emission(streams, events, rate)
    start = await Barrier.at(gate).start_ns()
    for number in range(events):
        ahead = start + emission.due_ns(stream, number) - time.monotonic_ns()
        if ahead > 0:
            await asyncio.sleep(ahead / 1e9)
        await ctx.emit("token", members(preload + number, time.monotonic_ns(), text))
    return {"emitted": preload + events}


@task(UNPACED)
async def unpaced(ctx: Context, gate: str, seconds: float, event_bytes: int = EVENT_BYTES) -> dict[str, Any]:
    """Wait at the gate, then emit as fast as the writer takes it, for so many seconds.

    Between events it gives way once, as any task does that awaits its next token from somewhere.
    """
    text = filling(event_bytes)
    until = await Barrier.at(gate).start_ns() + int(seconds * 1e9)
    number = 0
    while (now := time.monotonic_ns()) < until:
        await ctx.emit("token", members(number, now, text))
        number += 1
        await asyncio.sleep(0)
    return {"emitted": number}
