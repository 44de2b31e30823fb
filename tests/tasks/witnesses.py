"""Task functions that say in the worker's log how their first attempt ended; a later one emits a little and returns."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from workers import Context, Stopped, SyncContext, task

_log = logging.getLogger(__name__)

_LATER_EVENTS = 60
_PAUSE_SECONDS = 0.02


@task("witness_waiting")
async def witness_waiting(ctx: Context) -> None:
    """Call nothing: only from outside can it learn that it must end."""
    await ctx.emit("alive")
    if ctx.attempt > 1:
        await _emit_some(ctx)
        return
    try:
        await asyncio.sleep(60)
    except BaseException as error:
        _tell(ctx, error)
        raise


@task("witness_emitting")
async def witness_emitting(ctx: Context) -> None:
    """Emit for as long as it may."""
    await ctx.emit("alive")
    if ctx.attempt > 1:
        await _emit_some(ctx)
        return
    try:
        while True:
            await ctx.emit("alive")
            await asyncio.sleep(_PAUSE_SECONDS)
    except BaseException as error:
        _tell(ctx, error)
        raise


@task("witness_watching_in_thread")
def witness_watching_in_thread(ctx: SyncContext) -> None:
    """Look at the flag and call nothing until it is set."""
    ctx.emit("alive")
    if ctx.attempt > 1:
        _emit_some_in_thread(ctx)
        return
    while not ctx.cancelled:
        time.sleep(_PAUSE_SECONDS)
    try:
        ctx.emit("zombie")
    except Stopped as error:
        _tell(ctx, error)
        raise


@task("witness_emitting_in_thread")
def witness_emitting_in_thread(ctx: SyncContext) -> None:
    """Emit, and when that is refused try once more."""
    ctx.emit("alive")
    if ctx.attempt > 1:
        _emit_some_in_thread(ctx)
        return
    try:
        while True:
            ctx.emit("alive")
            time.sleep(_PAUSE_SECONDS)
    except BaseException:  # noqa: BLE001 - whatever the first refusal was, the second must be the last word
        while not ctx.cancelled:
            time.sleep(_PAUSE_SECONDS)
    try:
        ctx.emit("zombie")
    except Stopped as error:
        _tell(ctx, error)
        raise


async def _emit_some(ctx: Context) -> None:
    for number in range(_LATER_EVENTS):
        await ctx.emit("number", {"number": number})
        await asyncio.sleep(_PAUSE_SECONDS)


def _emit_some_in_thread(ctx: SyncContext) -> None:
    for number in range(_LATER_EVENTS):
        ctx.emit("number", {"number": number})
        time.sleep(_PAUSE_SECONDS)


def _tell(ctx: Context | SyncContext, error: Any) -> None:
    kind = type(error).__name__
    _log.warning("Attempt %d of task %s saw %s; cancelled: %s", ctx.attempt, ctx.task_id, kind, ctx.cancelled)
