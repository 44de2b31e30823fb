"""What to do with a queue entry: run its task, settle it, or leave it to its holder.

Invariant: the entry only hints; the record and its claim decide. Every outcome leaves the entry settled or pending
where `take_over` finds it again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from server.streams import calls
from server.streams.calls import Claimed, Lifetimes
from server.streams.connections import run
from server.streams.doorbell import Doorbells
from server.streams.lease import Lease, boot_seconds
from server.streams.ready import QueueEntry
from server.streams.records import Status, TaskRecord
from workers.attempt import Attempt, Claim, Shared
from workers.definition import TaskDefinition
from workers.retrying import until_answered

_log = logging.getLogger(__name__)

#: The task's last attempt is just leaving this worker.
_LOOK_AGAIN_SECONDS: Final = 0.2
#: A claim need not wait for a doorbell that is away: renewals bring the cancel flag, only later.
_WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """How this worker claims."""

    worker: str
    lease_seconds: float
    lifetimes: Lifetimes
    #: Whether an expired lease may be taken now (rule 7 of `workers.renewal`).
    may_take_expired: Callable[[], bool]


class Intake:
    """Opens attempts for entries. At most one attempt of a task runs here at a time."""

    def __init__(
        self, shared: Shared, definitions: Mapping[str, TaskDefinition], *, doorbells: Doorbells, terms: ClaimTerms
    ) -> None:
        self._shared = shared
        self._definitions = definitions
        self._doorbells = doorbells
        self._terms = terms
        #: Tasks being claimed or run by this worker, each with its entry.
        self._open: dict[str, QueueEntry] = {}
        #: Entries to look at again, and when.
        self._parked: list[tuple[float, QueueEntry]] = []

    async def open(self, entry: QueueEntry) -> Attempt | None:
        """The attempt to run, which the caller closes when it ends; None if there is nothing to run."""
        if entry.task_id in self._open:
            self._parked.append((monotonic() + _LOOK_AGAIN_SECONDS, entry))
            return None
        self._open[entry.task_id] = entry
        attempt: Attempt | None = None
        try:
            attempt = await self._open_unless_over(entry)
        finally:
            if attempt is None:
                self.close(entry)
        return attempt

    def close(self, entry: QueueEntry) -> None:
        """Let the task go: its attempt has ended. May be called again."""
        if self._open.get(entry.task_id) == entry:
            self._doorbells.unwatch(self._shared.keys.control(entry.task_id))
            del self._open[entry.task_id]

    def unpark(self) -> list[QueueEntry]:
        """What is to be looked at again by now."""
        now = monotonic()
        due = [entry for at, entry in self._parked if at <= now]
        self._parked = [each for each in self._parked if each[0] > now]
        return due

    async def put_all_back(self) -> None:
        """Give away every entry that waits here: the worker shuts down."""
        parked, self._parked = self._parked, []
        for _, entry in parked:
            await self._shared.queue.put_back(entry)

    async def _open_unless_over(self, entry: QueueEntry) -> Attempt | None:
        record = await until_answered(lambda: self._shared.store.find(entry.task_id))
        if record is None or record.status.is_ended:
            await self._settle(entry, record)
            return None
        definition = self._definitions.get(record.type)
        if definition is None:
            # Of somebody else's making: only streams of the types that are offered here are read.
            _log.warning("Task %s is of type %r, which this worker does not offer", entry.task_id, record.type)
            await until_answered(lambda: self._shared.queue.move(entry, record))
            return None
        # Before the claim: a cancel flag set after it must not go unheard. The nudge says only "renew now", also to the
        # claim that is on its way.
        asked = self._shared.keeper.asked
        nudges = self._shared.keys.control(entry.task_id)
        await self._doorbells.watch(nudges, lambda _: self._shared.keeper.renew_now(), timeout_seconds=_WATCH_SECONDS)
        claim = await self._claim(entry, record, asked=asked)
        return Attempt(self._shared, claim, definition) if claim else None

    async def _claim(self, entry: QueueEntry, record: TaskRecord, *, asked: int) -> Claim | None:
        nonce = secrets.token_hex(16)
        asked_at = boot_seconds()  # of the first time it is asked: a repeated reply does not renew the lease
        claimed = await until_answered(lambda: self._ask(entry.task_id, nonce))
        if claimed.record is not None:
            lease = Lease(self._terms.lease_seconds, asked_at=asked_at)
            return Claim(entry, claimed.record, nonce, lease, asked)
        if claimed.outcome == "held":
            _log.debug("Task %s is run by another worker", entry.task_id)
            return None
        if claimed.outcome == "early":
            # Whoever put it off died before the queue knew, or somebody asked for it too soon.
            until_ms = claimed.not_before_ms
            await until_answered(lambda: self._shared.queue.postpone(entry, record, not_before_ms=until_ms))
            return None
        if claimed.outcome == "exhausted":
            _log.error("Task %s has an id too large to count on from, and cannot be run", entry.task_id)
        await self._settle(entry, await until_answered(lambda: self._shared.store.find(entry.task_id)))
        return None

    async def _ask(self, task_id: str, nonce: str) -> Claimed:
        call = calls.claim(
            self._shared.keys,
            task_id,
            nonce=nonce,
            worker=self._terms.worker,
            lease_ms=int(self._terms.lease_seconds * 1000),
            entropy=secrets.randbelow(1000),
            lifetimes=self._terms.lifetimes,
            may_take_expired=self._terms.may_take_expired(),
        )
        return await run(self._shared.client, call)

    async def _settle(self, entry: QueueEntry, record: TaskRecord | None) -> None:
        """The last two steps of an ended task, whose worker may have died before them."""
        if record is not None and record.status.is_ended and record.status is not Status.DELETED:
            await self._shared.announcer.updated(record, to_system=True)
            if record.is_dead_letter:
                await until_answered(lambda: self._shared.dead_letters.add(entry.task_id))
        await until_answered(lambda: self._shared.queue.settle(entry))
