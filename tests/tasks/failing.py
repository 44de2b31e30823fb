"""Task functions that fail, each in a way that a policy is about."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from workers import Context, SyncContext, TaskError, task


@task("fail_until", backoff=0.05)
async def fail_until(ctx: Context, attempt: int) -> None:
    """Raise in every attempt before this one."""
    if ctx.attempt < attempt:
        raise LookupError(f"attempt {ctx.attempt}")


@task("fail_slowly", backoff=600)
async def fail_slowly(ctx: Context) -> None:
    """Raise, and be tried again in ten minutes."""
    raise LookupError("no")


@task("declare_failure", backoff=0)
async def declare_failure(ctx: Context) -> None:
    raise TaskError("It cannot be done.")


@task("raise_unlisted", backoff=0, retry_on=(OSError, ValueError))
async def raise_unlisted(ctx: Context) -> None:
    raise KeyError("x")


@task("raise_excluded", backoff=0, retry_on=LookupError, no_retry_on=KeyError)
async def raise_excluded(ctx: Context) -> None:
    raise KeyError("x")


@task("hang", timeout=0.2, backoff=0.05)
async def hang(ctx: Context) -> None:
    await asyncio.sleep(60)


@task("hang_in_thread", timeout=0.2, backoff=0.05)
def hang_in_thread(ctx: SyncContext) -> None:
    """Hang, but look at the context now and then."""
    while not ctx.cancelled:
        time.sleep(0.02)


@task("block_past_timeout", timeout=2)
async def block_past_timeout(ctx: Context) -> None:
    """Block the event loop of the first worker."""
    if ctx.attempt > 1:
        return
    await ctx.emit("blocking")
    await asyncio.sleep(0.1)
    time.sleep(60)  # noqa: ASYNC251 - this is what it is for


@task("kill_worker")
async def kill_worker(ctx: Context) -> None:
    """What the kernel does to a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
