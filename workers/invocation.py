"""Calling a task function: async ones as an asyncio task, plain ones in a thread of their own.

Invariant: whatever a function does (raise, `sys.exit`, ignore its cancellation), the worker goes on. The one place
where every exception of a user's code is caught.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from workers.context import Context, StopSign, SyncContext
from workers.definition import TaskDefinition

#: Long enough to close a connection or remove a file, short enough that a cancelled task is seen to end.
STOP_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Returned:
    """The function came to its end."""

    result: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The function failed."""

    error: BaseException


Outcome = Returned | Raised


class Invocation:
    """One call of a task function. Belongs to the event loop that starts it."""

    def __init__(
        self,
        definition: TaskDefinition,
        context: Context,
        arguments: dict[str, Any],
        *,
        stop: StopSign,
        on_over: Callable[[], None],
    ) -> None:
        self._is_async = definition.is_async
        self._stop = stop
        run = _run_async if definition.is_async else _run_in_thread
        name = f"task {context.task_id}"
        self._body = asyncio.create_task(run(definition, context, arguments), name=name)
        self._body.add_done_callback(lambda _: on_over())

    @property
    def is_over(self) -> bool:
        return self._body.done()

    def outcome(self) -> Outcome:
        """How it ended, once it is over."""
        try:
            return self._body.result()
        except asyncio.CancelledError as error:  # not by us: the function let a cancellation of its own escape
            return Raised(error)

    async def stop(self, reason: str, *, grace_seconds: float = STOP_GRACE_SECONDS) -> bool:
        """Ask the function to end, and wait for a while; returns whether it did.

        An async function is cancelled at its next `await`; a thread can only be told, by its context.
        """
        self._stop.reason = reason
        if self._is_async:
            self._body.cancel()
        done, _ = await asyncio.wait({self._body}, timeout=grace_seconds)
        if not done:
            self._body.add_done_callback(_forget)
        return bool(done)


async def _run_async(definition: TaskDefinition, context: Context, arguments: dict[str, Any]) -> Outcome:
    try:
        return Returned(await definition.function(context, **arguments))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit too: raised in an asyncio task it would end the worker
        return _raised(error)


async def _run_in_thread(definition: TaskDefinition, context: Context, arguments: dict[str, Any]) -> Outcome:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome] = loop.create_future()
    sync_context = SyncContext(context, loop)
    variables = contextvars.copy_context()

    def settle(outcome: Outcome) -> None:
        if not ended.done():
            ended.set_result(outcome)

    def work() -> None:
        outcome: Outcome
        try:
            outcome = Returned(variables.run(definition.function, sync_context, **arguments))
        except BaseException as error:  # noqa: BLE001 - as above
            outcome = _raised(error)
        with suppress(RuntimeError):  # the loop is closed: the worker left without this thread
            loop.call_soon_threadsafe(settle, outcome)

    # Not a pool: its threads are joined at exit, and one that ignores its cancellation would keep the process.
    threading.Thread(target=work, name=f"task {context.task_id}", daemon=True).start()
    return await ended


def _raised(error: BaseException) -> Raised:
    """The outcome, without what exhausted the memory.

    All that the function had kept is still kept by the frames of its traceback: with nothing left, not even its end
    could be told, and the task would run for ever.
    """
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, MemoryError):
            traceback.clear_frames(each.__traceback__)
        each = each.__context__
    return Raised(error)


def _forget(body: asyncio.Task[Outcome]) -> None:
    """Retrieve what an abandoned function ended with, so that asyncio does not complain of it."""
    if not body.cancelled():
        body.exception()
