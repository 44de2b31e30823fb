"""The reaper: every unfinished task has a lease, a queue entry or a place in the delayed set, or gets one, and is kept.

Walks the index of unfinished tasks. It finishes creations that died between record and queue, finds entries that Redis
lost, ends what must not be tried again where no worker comes to do it, or what nobody follows any more where that is
asked for, and forgets what has ended, once readers were told. Every server runs one; whatever two of them do twice is
harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import time
from typing import Final

from server.streams.connections import AsyncClient, redis_seconds
from server.streams.dead_letters import DeadLetters
from server.streams.delayed import due_at_ms, postpone
from server.streams.errors import LogRefused, StreamsError
from server.streams.jitter import jitter
from server.streams.keys import Keys
from server.streams.presence import Presence
from server.streams.ready import enqueue_early, has_entry
from server.streams.records import Status, TaskRecord
from server.streams.tasks import TaskStore

_log = logging.getLogger(__name__)

_PAGE: Final = 100
#: An index entry this old without a record belongs to a creation that died, or to a record that expired.
_ORPHAN_SECONDS: Final = 60.0
#: A task as it was this long ago is kept from expiring, which takes days; others need no command for that.
_LONG_SECONDS: Final = 86_400.0


class Reaper:
    """Looks after unfinished tasks every `interval_seconds`, about."""

    def __init__(
        self,
        client: AsyncClient,
        keys: Keys,
        store: TaskStore,
        dead_letters: DeadLetters,
        presence: Presence,
        *,
        interval_seconds: float,
        may_judge_expired: Callable[[], bool],
    ) -> None:
        self._client = client
        self._keys = keys
        self._store = store
        self._dead_letters = dead_letters
        self._presence = presence
        self._interval_seconds = interval_seconds
        self._may_judge_expired = may_judge_expired
        #: What the clock of Redis said at the last page, seconds since epoch: leases and delays are counted by it.
        self._now = 0.0
        #: Tasks of which the log said that Redis refuses to have them looked after.
        self._refused: set[str] = set()

    async def run(self) -> None:
        """Reap for ever; a failed round is tried again, and logged unless the one before failed too."""
        is_waiting = False
        while True:
            await asyncio.sleep(self._interval_seconds * jitter.uniform(0.5, 1.5))
            try:
                await self.reap_once()
                is_waiting = False
            except StreamsError as error:
                _log.log(logging.DEBUG if is_waiting else logging.WARNING, "The reaper waits: %s", error)
                is_waiting = True

    async def reap_once(self) -> None:
        """One walk over the whole index. Raises `LogUnavailable`."""
        offset = 0
        while page := await self._store.unfinished(limit=_PAGE, offset=offset):
            self._now = await redis_seconds(self._client)
            kept = [await self._keep_if_possible(task_id, since) for task_id, since in page]
            offset += sum(kept)
            if len(page) < _PAGE:
                return

    async def _keep_if_possible(self, task_id: str, since: float) -> bool:
        """The same for a task with which anything may be wrong: the others must not suffer from it."""
        try:
            is_kept = await self._keep(task_id, since)
        except LogRefused as refusal:
            level = logging.DEBUG if task_id in self._refused else logging.ERROR
            _log.log(level, "Task %s cannot be looked after: %s", task_id, refusal)
            self._refused.add(task_id)
            return True
        self._refused.discard(task_id)
        return is_kept

    async def _keep(self, task_id: str, since: float) -> bool:
        record = await self._store.find(task_id)
        if record is None and time() - since < _ORPHAN_SECONDS:
            return True
        if record and not record.status.is_ended:
            if not await self._has_settled(record):
                await self._requeue_if_lost(record)
                await self._store.keep_key(record)
                if _waits_long(record):
                    await self._store.keep_waiting(record)
                await self._presence.judge(record)
                return True
            record = await self._store.find(task_id)
        if record and record.is_dead_letter:
            await self._dead_letters.add(task_id)
        if record:
            await self._store.release_key(record)
        # Who ended it may have died, or missed the reply, before it told anybody.
        if record and record.status is not Status.DELETED and not await self._store.announce_end(record):
            return True
        await self._store.forget_unfinished(task_id)
        # It may have been started again since it was read: that put it on the index it has just been taken off.
        again = await self._store.find(task_id)
        if again and not again.status.is_ended:
            await self._store.restore_index(task_id)
        return False

    async def _has_settled(self, record: TaskRecord) -> bool:
        """End a task that was cancelled or lost its worker, if nobody may run it again.

        A claim does the same, but perhaps there is no worker left to come.
        """
        is_lost = record.status is Status.RUNNING and self._is_lost(record)
        is_cancelled = record.status is Status.PENDING and record.is_cancel_requested
        if not is_lost and not is_cancelled:
            return False
        return await self._store.expire(record.id) == "settled"

    async def _requeue_if_lost(self, record: TaskRecord) -> None:
        if record.status is Status.PENDING and not record.is_queued:
            return
        if record.status is Status.RUNNING and not self._is_lost(record):
            return
        if await has_entry(self._client, self._keys, record) or await self._waits_rightly(record):
            return
        _log.info("Task %s had neither lease nor queue entry; it is queued again", record.id)
        if record.status is Status.PENDING and record.not_before_ms > self._now * 1000:
            await postpone(self._client, self._keys, record, not_before_ms=record.not_before_ms)
        else:
            await enqueue_early(self._client, self._keys, record)

    async def _waits_rightly(self, record: TaskRecord) -> bool:
        """Whether it has a place in the delayed set, and not for longer than its record says.

        Longer, if whoever was asked to start it now died between the record and the queue.
        """
        due_ms = await due_at_ms(self._client, self._keys, record)
        return due_ms is not None and due_ms <= max(record.not_before_ms, self._now * 1000)

    def _is_lost(self, record: TaskRecord) -> bool:
        # Being early only adds a hint that the claim then refuses.
        return self._may_judge_expired() and record.lease_until_ms < self._now * 1000


def _waits_long(record: TaskRecord) -> bool:
    # For a worker or its time; who runs it refreshes it anyway. What nobody asked to run may expire.
    return record.is_queued and int(record.values.get("updated_at", 0)) < (time() - _LONG_SECONDS) * 1000
