"""The writer of a task's stream: from `emit` to the log, through lost replies, lost data and lost leases.

Owns the one asyncio task that appends; events that arrive while an append is in flight go together in the next. What
replies mean is decided by `Outbox`; a `Fenced` writer never writes again. Knows nothing of how the task is run.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from server.streams import calls
from server.streams.calls import Batch, Call, Lifetimes, Reply, WriterCalls
from server.streams.connections import AsyncClient, run
from server.streams.errors import Fenced, LogUnavailable
from server.streams.event import ATTEMPT, Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.lease import Lease, boot_seconds
from server.streams.outbox import Conclusion, Outbox
from server.streams.records import TERMINAL_TYPES, Status, TaskRecord

_log = logging.getLogger(__name__)

#: Above this `emit` waits: a task that outruns Redis must slow down, not grow.
_MAX_UNSENT_EVENTS: Final = 4000
_MAX_UNSENT_BYTES: Final = 4 << 20
#: Redis trims whole nodes of a hundred entries, so asking it more often than about once a node is for nothing.
_EVENTS_PER_TRIM: Final = 64
_REFRESH_SECONDS: Final = 30.0
_BACKOFF_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
#: Decided by the scripts or by other processes: a writer must not write its old copy back.
_NOT_OURS: Final = frozenset({"cancel", "lease_until", "owner", "updated_at", "last_id", "queue_entry"})


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """What every writer of a worker shares."""

    lifetimes: Lifetimes
    #: Newest events a log keeps (about: whole nodes are trimmed); 0 for no limit.
    max_events: int
    lease_ms: int


class StreamWriter:
    """Writes one generation of one task. Use as an async context manager; methods belong to its event loop.

    Ordering: events are stored in the order of `emit`. Cancelling a caller of `emit` or `flush` loses nothing that
    was taken in. Raises `Fenced` from every method once another owner is known.
    """

    def __init__(
        self,
        client: AsyncClient,
        keys: Keys,
        record: TaskRecord,
        *,
        nonce: str,
        lease: Lease,
        options: WriterOptions,
    ) -> None:
        self._client = client
        self._keys = keys
        self._task_id = record.id
        self._nonce = nonce
        self._lease = lease
        self._options = options
        self._calls = WriterCalls(
            keys,
            record.id,
            generation=record.generation,
            nonce=nonce,
            lease_ms=options.lease_ms,
            lifetimes=options.lifetimes,
        )
        self._outbox = Outbox(record.generation, Draft(ATTEMPT, record.values["opening"]))
        #: The writer's copy of the record, from which a lost one is written back.
        self._values = {name: value for name, value in record.values.items() if name not in _NOT_OURS}
        #: Fields to store with the next batch.
        self._changed: dict[str, str] = {}
        self._is_probe_due = False
        self._refreshed_at = boot_seconds()
        self._wake = asyncio.Event()
        self._settled = asyncio.Condition()
        self._failure: Exception | None = None
        self._loop_task: asyncio.Task[None] | None = None
        #: Called once a repair was stored: indexes of other slots may be lost too.
        self.on_repair: Callable[[], None] | None = None
        #: Called once when the writer is fenced, whoever found out: the task function has to stop.
        self.on_fence: Callable[[str], None] | None = None

    @property
    def generation(self) -> int:
        return self._outbox.generation

    @property
    def stored(self) -> EventId:
        """The last id known to be in the log."""
        return self._outbox.stored

    async def __aenter__(self) -> Self:
        self._loop_task = asyncio.create_task(self._run(), name=f"writer of {self._task_id}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loop_task:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)

    async def emit(self, draft: Draft, values: Mapping[str, str] | None = None) -> EventId:
        """Take an event in and return its id; waits only while too much is unsent.

        `values` are fields of the record to change in the same step as the append.
        """
        while self._outbox.unsent >= _MAX_UNSENT_EVENTS or self._outbox.unsent_bytes >= _MAX_UNSENT_BYTES:
            await self._wait_settled()
        self._check()
        found = self._outbox.add(draft)
        if values:
            self._changed.update(values)
        self._wake.set()
        return found

    async def flush(self) -> None:
        """Wait until everything taken in is stored."""
        while self._outbox.unsent or self._changed:
            self._wake.set()
            await self._wait_settled()
        self._check()

    async def finish(self, status: Status, data: str) -> EventId:
        """Append the terminal event and end the record in one step. `data` is the event's data, JSON."""
        await self.flush()
        self._changed.update({"status": status.value, "end": data})
        self._outbox.add(Draft(TERMINAL_TYPES[status], data), is_terminal=True)
        await self.flush()
        return self._outbox.stored

    async def verify(self) -> None:
        """Ask whether the log still holds what was stored, and repair it if not."""
        self._is_probe_due = True
        while self._is_probe_due:
            self._wake.set()
            await self._wait_settled()
        self._check()

    def probe(self) -> None:
        """Ask for the same without waiting; for a renewal that found the log or the record short."""
        self._is_probe_due = True
        self._wake.set()

    def fence(self, reason: str) -> None:
        """Stop for good, because of what somebody else found."""
        if self._failure is None:
            self._failure = Fenced(reason)
            self._wake.set()
            if self.on_fence:
                self.on_fence(reason)

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    async def _wait_settled(self) -> None:
        self._check()
        async with self._settled:
            await self._settled.wait()
        self._check()

    async def _run(self) -> None:
        failures = 0
        while self._failure is None:
            await self._wake.wait()
            self._wake.clear()
            try:
                while self._failure is None and (self._outbox.unsent or self._changed or self._is_probe_due):
                    await self._append_once()
                    failures = 0
            except LogUnavailable as error:
                failures += 1
                if failures == 1:
                    _log.warning("Task %s waits to write: %s", self._task_id, error)
                await asyncio.sleep(
                    _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1] * random.uniform(0.7, 1.3)
                )
                self._wake.set()
            except Exception as error:  # noqa: BLE001 - a supervised loop: whoever waits must not wait for ever
                _log.exception("The writer of task %s failed", self._task_id)
                self._failure = error
            async with self._settled:
                self._settled.notify_all()

    async def _append_once(self) -> None:
        if not await self._may_write():
            return
        batch = self._outbox.next_batch()
        changed = dict(self._changed) if batch.is_terminal or not self._outbox.is_closed else {}
        reply = await run(self._client, self._append_call(batch, changed))
        conclusion = self._outbox.conclude(batch, reply)
        if conclusion is Conclusion.STORED:
            # After "differs" the fields are sent once more: they may belong to a part that was not stored. Not so with
            # the terminal event, which they share a step with, and behind which nothing can be sent.
            if reply.outcome != "differs" or (batch.is_terminal and not self._outbox.unsent):
                self._note_values(changed)
        elif conclusion is Conclusion.REPAIR:
            await self._repair()
        else:
            self.fence(
                f"The log of task {self._task_id} answered {reply.outcome!r} at {reply.id}: another run owns it."
            )
        async with self._settled:
            self._settled.notify_all()

    def _note_values(self, stored: Mapping[str, str]) -> None:
        self._values.update(stored)
        self._changed = {name: value for name, value in self._changed.items() if stored.get(name) != value}
        self._is_probe_due = False

    async def _repair(self) -> None:
        batch = self._outbox.repair_batch()
        _log.warning("Redis lost data of task %s; writing %d events back", self._task_id, len(batch.drafts))
        call = self._calls.repair(
            batch,
            values=self._values,
            highest=self._outbox.last_id.sequence,
            max_events=self._options.max_events,
        )
        reply = await run(self._client, call)
        if reply.outcome != "stored":
            self.fence(f"Task {self._task_id} lost data in Redis, and another run or its end is recorded there.")
        elif self.on_repair:
            self.on_repair()

    def _append_call(self, batch: Batch, values: Mapping[str, str]) -> Call[Reply]:
        before = batch.first_sequence - 1
        trims = (before + len(batch.drafts)) // _EVENTS_PER_TRIM > before // _EVENTS_PER_TRIM
        return self._calls.append(
            batch,
            expected=self._outbox.stored,
            values=values,
            refreshes=self._is_refresh_due(),
            trim_to=self._options.max_events if trims else 0,
        )

    def _is_refresh_due(self) -> bool:
        now = boot_seconds()
        if now - self._refreshed_at <= _REFRESH_SECONDS:
            return False
        self._refreshed_at = now
        return True

    async def _may_write(self) -> bool:
        """After the lease ran out by our own clock somebody else may run the task: ask before writing."""
        if self._lease.is_fresh or (self._outbox.is_closed and not self._outbox.unsent):
            return True
        asked_at = boot_seconds()
        call = calls.renew(
            self._keys,
            self._task_id,
            nonce=self._nonce,
            lease_ms=self._options.lease_ms,
            lifetimes=self._options.lifetimes,
            stored=self._outbox.stored,
        )
        renewal = await run(self._client, call)
        if renewal.outcome != "renewed":
            self.fence(f"The lease of task {self._task_id} ran out, and its record answered {renewal.outcome!r}.")
            return False
        self._lease.renewed(asked_at=asked_at)
        return True
