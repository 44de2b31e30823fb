"""A task that moves the wall clock of its worker, as an administrator or a bad time server does."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from workers import Context, task

_PAUSE_SECONDS = 0.02
_read_clock = time.clock_gettime
_shift_seconds = 0.0


@task("jump_wall_clock", timeout=60)
async def jump_wall_clock(ctx: Context, jumps: list[float], numbers: int) -> None:
    """Emit so many `number`s behind each jump of so many seconds."""
    _move_clock()
    count = 0
    for seconds in jumps:
        global _shift_seconds  # noqa: PLW0603 - a clock is one for the whole process
        _shift_seconds += seconds
        await ctx.emit("jumped", {"to": time.time()})
        for _ in range(numbers):
            await ctx.emit("number", {"number": count})
            await asyncio.sleep(_PAUSE_SECONDS)
            count += 1


def _move_clock() -> None:
    """Let every module that is loaded read the wall clock from here, by whatever name it knows it."""
    given: dict[int, Callable[..., float]] = {id(time.time): _wall_clock, id(time.clock_gettime): _clock_gettime}
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if id(value) in given and module.__name__ != __name__:
                setattr(module, name, given[id(value)])


def _wall_clock() -> float:
    return _clock_gettime(time.CLOCK_REALTIME)


def _clock_gettime(clock: int) -> float:
    return _read_clock(clock) + (_shift_seconds if clock == time.CLOCK_REALTIME else 0.0)
