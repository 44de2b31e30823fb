"""Tasks with side effects in a store that knows of fences, for storms: what the store was asked is the evidence.

The store is a Redis hash for each task, and a journal of every write that reached it. It takes a write only if its
fence is not below the highest it has seen: what users are told to do with `ctx.fence`. Decides nothing but that.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import cache
from typing import Any

from server.streams.connections import AsyncClient, SyncClient, connect, connect_sync, execute, execute_many_sync
from workers import Context, SyncContext, task

#: KEYS 1 store, 2 journal. ARGV 1 fence, 2 attempt, 3 what is written. Reply 1 if it was taken.
_WRITE = """
local highest = redis.call('HGET', KEYS[1], 'fence') or '0'
local is_taken = tonumber(ARGV[1]) >= tonumber(highest)
if is_taken then
  redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'value', ARGV[3])
end
redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. (is_taken and 'taken' or 'refused'))
return is_taken and 1 or 0
"""


def journal_key(task_id: str) -> str:
    """Where the writes of a task are, a line each: fence, attempt, what, and `taken` or `refused`."""
    return f"storm:{{{task_id}}}:journal"


@task("storm", backoff=0.05)
async def storm(ctx: Context, steps: int, pause_ms: int) -> dict[str, Any]:
    """Write each step to the store, and emit it."""
    await ctx.emit("worker", {"pid": os.getpid()})
    for step in range(steps):
        await execute(_store(), *_write(ctx, step))
        await ctx.emit("step", {"step": step})
        await asyncio.sleep(pause_ms / 1000)
    return {"fence": ctx.fence}


@task("storm_in_thread", backoff=0.05)
def storm_in_thread(ctx: SyncContext, steps: int, pause_ms: int) -> dict[str, Any]:
    """The same from a thread."""
    ctx.emit("worker", {"pid": os.getpid()})
    for step in range(steps):
        execute_many_sync(_store_for_threads(), [_write(ctx, step)])
        ctx.emit("step", {"step": step})
        time.sleep(pause_ms / 1000)
    return {"fence": ctx.fence}


def _write(ctx: Context | SyncContext, step: int) -> tuple[str | int, ...]:
    store = f"storm:{{{ctx.task_id}}}:store"
    return "EVAL", _WRITE, 2, store, journal_key(ctx.task_id), ctx.fence, ctx.attempt, step


@cache
def _store() -> AsyncClient:
    return connect(os.environ["REPRISE_REDIS_URL"], name="store")


@cache
def _store_for_threads() -> SyncClient:
    return connect_sync(os.environ["REPRISE_REDIS_URL"], name="store")
