"""What a task function is given: `Context` for `async def`, `SyncContext` for `def` in a thread.

Invariant: once the attempt is to stop, or has ended, every call raises `Stopped` and nothing more is written. Knows
nothing of leases, queues or Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from server.streams.errors import TooLarge
from server.streams.event import Draft, draft, encode_json
from server.streams.ids import EventId
from workers import shapes

T = TypeVar("T")


class Stopped(BaseException):
    """The attempt must not go on: cancelled, fenced, handed back or over. Not an `Exception`: it must get through."""


class EventWriter(Protocol):
    """The part of `StreamWriter` that a context needs."""

    async def emit(self, draft: Draft, values: Mapping[str, str] | None = None) -> EventId: ...
    async def checkpoint(self, state: str) -> EventId: ...
    @property
    def unstored_seconds(self) -> float: ...


@dataclass(slots=True)
class StopSign:
    """Tells a function that it must end. Set by the attempt, on the event loop; read from any thread."""

    reason: str | None = None

    def check(self) -> None:
        if self.reason is not None:
            raise Stopped(self.reason)


class Context:
    """One attempt of one task, seen from its function.

    Ordering: events are stored in the order of the calls. A call returns once the event is taken in; it waits only
    while much is unsent. Raises `InvalidInput` for an event that breaks a rule, `TooLarge` above
    REPRISE_MAX_EVENT_BYTES, `Fenced` once another worker runs the task, `Stopped` once this attempt must end.
    """

    def __init__(
        self,
        *,
        task_id: str,
        attempt: int,
        fence: int,
        restored: Any,
        writer: EventWriter,
        max_event_bytes: int,
        stop: StopSign,
        on_progress: Callable[[int], None],
    ) -> None:
        self.task_id = task_id
        #: 1 for the first run of the task, counting up.
        self.attempt = attempt
        #: The generation of this attempt, higher than that of every earlier one: a fencing token for side effects.
        self.fence = fence
        #: The state of the last checkpoint of an earlier attempt, up to which its output stands; None if there is none.
        self.restored = restored
        self._writer = writer
        self._max_event_bytes = max_event_bytes
        self._stop = stop
        self._on_progress = on_progress

    @property
    def cancelled(self) -> bool:
        """Whether the function should end now: the task was cancelled, or its worker may not or will not go on."""
        return self._stop.reason is not None

    @property
    def unstored_seconds(self) -> float:
        """For how long Redis has stored nothing of what was emitted; 0 where all is stored.

        While it grows, Redis is away, full, or may not write. A function that pays for what it emits can pause; after
        REPRISE_WRITE_TIMEOUT_SECONDS the attempt fails.
        """
        return self._writer.unstored_seconds

    async def emit(self, type: str, data: Any = None) -> None:
        """Append an event; `data` is anything that JSON can hold."""
        self._stop.check()
        await self._writer.emit(draft(type, data, max_bytes=self._max_event_bytes))

    async def progress(self, step: int, total_steps: int, message: str = "") -> None:
        """Append `progress`, and show the percentage wherever the task is listed."""
        self._stop.check()
        data = shapes.progress(step, total_steps, message)
        percentage: int = data["percentage"]
        found = draft("progress", data, max_bytes=self._max_event_bytes)
        await self._writer.emit(found, {"progress": str(percentage)})
        self._on_progress(percentage)

    async def checkpoint(self, state: Any) -> None:
        """Let everything emitted so far stand, whatever happens to this attempt; the next one gets `state` back.

        `state` is anything that JSON can hold, up to the size of an event. Returns once it is stored. Raises
        `InvalidInput` and `TooLarge` as `emit` does; the checkpoint before stays in force then.
        """
        self._stop.check()
        text = encode_json(state, what="The state of the checkpoint")
        size = len(text.encode())
        if size > self._max_event_bytes:
            raise TooLarge(
                f"The state of the checkpoint is {size} bytes; the limit is {self._max_event_bytes} "
                "(REPRISE_MAX_EVENT_BYTES). Store it elsewhere, and keep its place here."
            )
        await self._writer.checkpoint(text)

    async def token(self, text: str) -> None:
        """Append a piece of text that is being generated."""
        await self.emit("token", shapes.token(text))

    async def thought(self, text: str) -> None:
        """Append a step of reasoning."""
        await self.emit("thought", shapes.thought(text))

    async def log(self, message: str) -> None:
        """Append a line for whoever watches the task."""
        await self.emit("log", shapes.log(message))


class SyncContext:
    """The same for a `def` task: each call blocks its thread until the event is taken in."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self.task_id = context.task_id
        self.attempt = context.attempt
        self.fence = context.fence
        self.restored = context.restored

    @property
    def cancelled(self) -> bool:
        """As in `Context`. Nothing can stop a thread from outside: look here, or call another method, now and then."""
        return self._context.cancelled

    @property
    def unstored_seconds(self) -> float:
        """As in `Context`, a moment ago."""
        return self._context.unstored_seconds

    def emit(self, type: str, data: Any = None) -> None:
        self._wait_for(self._context.emit(type, data))

    def progress(self, step: int, total_steps: int, message: str = "") -> None:
        self._wait_for(self._context.progress(step, total_steps, message))

    def checkpoint(self, state: Any) -> None:
        self._wait_for(self._context.checkpoint(state))

    def token(self, text: str) -> None:
        self._wait_for(self._context.token(text))

    def thought(self, text: str) -> None:
        self._wait_for(self._context.thought(text))

    def log(self, message: str) -> None:
        self._wait_for(self._context.log(message))

    def _wait_for(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()
