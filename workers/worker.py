"""The worker: fetches entries while it has free slots, runs their tasks, and hands back what it cannot finish.

Invariant: work is taken only when it can be started at once, so that no entry ages in the pending list of a busy
worker. While Redis is away everything waits and says so once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from server.streams.cancelling import cancel_all
from server.streams.contact import Contact
from server.streams.delayed import promote_due
from server.streams.doorbell import Doorbells
from server.streams.durability import Durability
from server.streams.errors import LogRefused, LogUnavailable
from server.streams.ready import QueueEntry
from server.streams.refusing import at_first
from server.streams.registry import HEARTBEAT_SECONDS, Registry
from server.streams.suitability import examine
from workers.attempt import Attempt, Shared
from workers.definition import TaskDefinition
from workers.intake import ClaimTerms, Intake
from workers.retrying import backoff_seconds
from workers.slots import Slots

_log = logging.getLogger(__name__)

#: How long one fetch waits for work; a shutdown waits for it to return, because breaking it off could lose an entry.
BLOCK_MS: Final = 500
#: Between two looks at a Redis that answers but cannot be used: somebody may be changing its settings.
_UNSUITABLE_SECONDS: Final = 5.0
#: After the drain's deadline, for stopping functions and handing their tasks back.
_HAND_BACK_SECONDS: Final = 4.0
#: Signing off is a courtesy: a worker that does not is missed a few seconds later.
_LEAVE_SECONDS: Final = 2.0
#: Above the lease, so that whoever takes an entry over finds the lease expired and not about to expire.
_IDLE_MARGIN_MS: Final = 100
#: How often what killed workers left in the queues is removed.
_RETIRE_SECONDS: Final = 600.0
#: A task that is put off from now on is looked for after this at the latest.
_PROMOTE_MS: Final = 500


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a person decides about a worker."""

    #: Unique to this process: a name and a nonce.
    name: str
    #: The most urgent first.
    queues: tuple[str, ...]
    concurrency: int
    lease_seconds: float
    drain_seconds: float
    durability: Durability = Durability.FAST
    #: Whether it speaks TLS to Redis, and what to say of one that has never answered.
    has_tls: bool = False
    hint: str = ""


class Worker:
    """One worker. `run` returns once `stop` was called and everything is finished or handed back."""

    def __init__(
        self,
        options: WorkerOptions,
        shared: Shared,
        definitions: Mapping[str, TaskDefinition],
        *,
        doorbells: Doorbells,
        registry: Registry,
    ) -> None:
        self._options = options
        self._shared = shared
        self._definitions = definitions
        self._doorbells = doorbells
        self._registry = registry
        self._contact = Contact(max_silence_seconds=options.lease_seconds / 2)
        terms = ClaimTerms(options.name, options.lease_seconds, shared.options.lifetimes, self._may_judge_expired)
        self._intake = Intake(shared, definitions, doorbells=doorbells, terms=terms)
        self._slots = Slots(options.concurrency, {name: each.policy.concurrency for name, each in definitions.items()})
        #: Everything that is looked after until its ack.
        self._handlers: dict[QueueEntry, asyncio.Task[None]] = {}
        self._attempts: set[Attempt] = set()
        #: Held from counting free slots to filling them.
        self._looking = asyncio.Lock()
        self._is_waiting = False
        self._deadline: asyncio.Timeout | None = None
        #: Why this Redis cannot be used, as it was last said.
        self._refusals: tuple[str, ...] = ()
        self._is_ready = False
        #: Called once the worker takes work.
        self.on_ready: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """Take no more work; called again, hand back at once what still runs."""
        if not self._shared.draining.is_set():
            self._shared.draining.set()
        elif self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time())
        self._slots.open.set()

    async def run(self) -> None:
        self._shared.keeper.start()
        self._doorbells.on_connect = self._shared.keeper.renew_now
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._doorbells.run(), name="doorbells"),
                    group.create_task(self._keep_registered(), name="registration"),
                    group.create_task(self._keep_looking(), name="take-over"),
                    group.create_task(self._keep_promoting(), name="promotion"),
                    group.create_task(self._keep_refilling(), name="refill"),
                ]
                await self._fetch()
                await self._drain()
                await cancel_all(background)
            await self._leave()
        finally:
            self._shared.keeper.stop()

    async def _fetch(self) -> None:
        failures = 0
        while not self._is_draining:
            try:
                if not self._is_ready:
                    self._is_ready = await self._become_ready()
                    continue
                await self._take()
                if failures:
                    _log.info("Redis is back")
                failures = 0
            except LogUnavailable as error:
                failures += 1
                if failures == 1:
                    _log.warning("The worker waits for Redis: %s", self._told(error))
                await self._pause(backoff_seconds(failures))

    def _told(self, error: LogUnavailable) -> str:
        if self._is_ready:
            return str(error)
        return at_first(error, has_tls=self._options.has_tls, hint=self._options.hint)

    async def _become_ready(self) -> bool:
        found = await examine(self._shared.client, self._options.durability)
        for sentence in found.refusals:
            if sentence not in self._refusals:
                _log.error(sentence)
        self._refusals = found.refusals
        if found.refusals:
            await self._pause(_UNSUITABLE_SECONDS)
            return False
        await self._shared.queue.ensure_groups()
        await self._register()
        _log.info(
            "Worker %s is ready for %s; %d at once, from %s",
            self._options.name,
            ", ".join(sorted(self._definitions)),
            self._options.concurrency,
            ", ".join(self._options.queues),
        )
        self.on_ready()
        return True

    async def _take(self) -> None:
        await self._slots.open.wait()
        if self._is_draining or await self._look():
            return
        room = self._slots.room()
        if not self._slots.open.is_set() or self._is_draining:
            return
        self._is_waiting = True
        try:
            taken = await self._shared.queue.wait(room, block_ms=BLOCK_MS)
        finally:
            self._is_waiting = False
        await self._admit(taken)

    async def _look(self) -> bool:
        """Take what there is and fits; returns whether there was anything."""
        async with self._looking:
            taken = await self._shared.queue.look(self._slots.room())
            await self._admit(taken)
        return bool(taken)

    async def _keep_refilling(self) -> None:
        """Take work of a type that has room again, for the fetch may be waiting for that of others."""
        while True:
            await self._slots.eased.wait()
            self._slots.eased.clear()
            if self._is_waiting and not self._is_draining:
                with suppress(LogUnavailable):  # the fetch says it
                    await self._look()

    async def _admit(self, entries: Sequence[QueueEntry]) -> None:
        """Run what fits, and give the rest to others: while this was asked for, something else may have come."""
        left: list[QueueEntry] = []
        for entry in entries:
            if entry in self._handlers:
                continue  # our own, touched late
            if self._is_draining or not self._slots.fits(entry):
                left.append(entry)
                continue
            self._slots.occupy(entry)
            self._handlers[entry] = asyncio.create_task(self._handle(entry), name=f"entry of {entry.task_id}")
        for entry in left:
            await self._shared.queue.put_back(entry)

    async def _handle(self, entry: QueueEntry) -> None:
        attempt: Attempt | None = None
        try:
            attempt = await self._intake.open(entry)
            if attempt is not None:
                self._attempts.add(attempt)
                await attempt.run(on_ended=lambda: self._release(entry))
        except LogRefused as refusal:  # no bug: somebody has to mend it, and then it is looked at again
            _log.error("Task %s is left alone for one lease: %s", entry.task_id, refusal)
        except Exception:  # noqa: BLE001 - the boundary of one task: its entry stays pending and is looked at again
            _log.exception("Looking after task %s failed", entry.task_id)
        finally:
            await self._release(entry)
            self._handlers.pop(entry, None)
            if attempt is not None:
                self._attempts.discard(attempt)

    async def _release(self, entry: QueueEntry) -> None:
        self._slots.leave(entry)
        if self._is_draining:
            self._slots.open.set()
        self._intake.close(entry)

    @property
    def _is_draining(self) -> bool:
        return self._shared.draining.is_set()

    def _may_judge_expired(self) -> bool:
        lease = self._options.lease_seconds
        return self._contact.seconds >= lease and self._doorbells.connected_seconds >= lease

    async def _keep_looking(self) -> None:
        """Look after entries that nobody touches, those put aside here, and our place in the registry."""
        pause = min(1.0, self._options.lease_seconds / 4)
        idle_ms = int(self._options.lease_seconds * 1000) + _IDLE_MARGIN_MS
        retire_at = 0.0  # at once: a worker that starts finds those that were killed
        while True:
            try:
                is_listed = await self._registry.lists(self._options.name)
                self._contact.heard()
                if self._is_ready and not is_listed:  # Redis was emptied: no task can be created until we are back
                    await self._register()
                await self._admit(self._intake.unpark())
                if self._may_take_over():
                    async with self._looking:
                        taken_over = await self._shared.queue.take_over(self._slots.room(), idle_ms=idle_ms)
                        await self._admit(taken_over)
                if self._is_ready and monotonic() >= retire_at:
                    retire_at = monotonic() + _RETIRE_SECONDS
                    await self._retire_gone()
            except LogUnavailable:
                self._contact.lost()
            await asyncio.sleep(pause)

    def _may_take_over(self) -> bool:
        # Not of a Redis that must not be used as it is set up, any more than new work.
        is_free = self._slots.open.is_set() and not self._is_draining
        return self._is_ready and is_free and self._may_judge_expired()

    async def _retire_gone(self) -> None:
        try:
            await self._shared.queue.retire_gone()
            await self._registry.forget_gone()
        except LogUnavailable as error:  # says nothing of leases
            _log.warning("What killed workers left could not be removed: %s", error)

    async def _keep_promoting(self) -> None:
        """Move tasks of our queues that were put off to the ready streams when their time has come."""
        while not self._is_draining:
            pause_ms = _PROMOTE_MS
            with suppress(LogUnavailable):  # the fetch says it
                for queue in self._options.queues:
                    next_ms = await promote_due(self._shared.client, self._shared.keys, queue)
                    pause_ms = min(pause_ms, next_ms if next_ms is not None else pause_ms)
            await self._pause(max(pause_ms, 10) / 1000)

    async def _keep_registered(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._is_ready:
                with suppress(LogUnavailable):  # the fetch says it
                    await self._register()

    async def _register(self) -> None:
        details: dict[str, Any] = {
            "queues": list(self._options.queues),
            "concurrency": self._options.concurrency,
            "running": len(self._slots),
        }
        types = [each.task_type() for each in self._definitions.values()]
        await self._registry.heartbeat(self._options.name, types, details=details)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._shared.draining.wait(), seconds)

    async def _drain(self) -> None:
        if len(self._slots):
            _log.info("Finishing %d task(s), for %g s at most", len(self._slots), self._options.drain_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.drain_seconds) as self._deadline:
                await self._no_handlers()
        self._deadline = None  # handing back is not hurried: what is left half-done waits for a lease to run out
        for attempt in tuple(self._attempts):
            attempt.hand_back()
        with suppress(TimeoutError):
            async with asyncio.timeout(_HAND_BACK_SECONDS):
                await self._no_handlers()
        left = list(self._handlers.values())
        for handler in left:
            handler.cancel()
        if left:  # bounded: what still tells news to a frozen Redis must not outlive the supervisor's patience
            await asyncio.wait(left, timeout=_LEAVE_SECONDS)

    async def _no_handlers(self) -> None:
        while self._handlers:
            await asyncio.wait(set(self._handlers.values()))

    async def _leave(self) -> None:
        with suppress(LogUnavailable, TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._intake.put_all_back()
                await self._shared.queue.leave()
                await self._registry.leave(self._options.name)
        _log.info("Worker %s has left", self._options.name)
