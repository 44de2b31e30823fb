"""Whether anybody follows a task that is to be cancelled when nobody does (`on_disconnect="cancel"`).

Redis itself knows: every server listens to the doorbells of the streams its readers follow, so a stream without
listeners has no readers, on any replica. The record's `unfollowed_since` adds since when: "0" while somebody is known
to follow, absent before anybody ever did. Invariant: a task is cancelled only if it was without listeners when its last
reader left, or when its server was found to be gone, and is so again one grace period later.
"""

from __future__ import annotations

import logging

from server.streams import calls
from server.streams.connections import AsyncClient, execute, run
from server.streams.keys import Keys
from server.streams.names import task_of_stream, task_stream
from server.streams.records import TaskRecord
from server.streams.tasks import TaskStore

_log = logging.getLogger(__name__)


class Presence:
    """Notes that readers come and go, and cancels what nobody follows. Raises `LogUnavailable` from each method."""

    def __init__(self, client: AsyncClient, keys: Keys, store: TaskStore, *, grace_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._store = store
        self.grace_seconds = grace_seconds

    async def came(self, stream: str) -> None:
        """Note that somebody follows a task's stream; to be called once its doorbell is listened to."""
        await self._note(await self._find(stream), since=0)

    async def left(self, stream: str) -> None:
        """Note that this server's last reader has left; to be called once its doorbell is listened to no more."""
        record = await self._find(stream)
        if record is not None and not await self._is_followed(record):
            await self._note(record, since=await self._now_ms())

    async def judge(self, record: TaskRecord) -> None:
        """Cancel the task if nobody has followed it for the grace period; begin the period if nobody noticed."""
        if not _is_concerned(record) or record.unfollowed_since_ms is None:
            return
        if await self._is_followed(record):
            if record.unfollowed_since_ms:
                # The note that somebody came was lost, or overtaken by another server's that its last reader left.
                await self._note(record, since=0)
            return
        now = await self._now_ms()
        if record.unfollowed_since_ms == 0:
            await self._note(record, since=now)
        elif now - record.unfollowed_since_ms >= self.grace_seconds * 1000:
            _log.info("Task %s is cancelled: nobody has followed it for %g s", record.id, self.grace_seconds)
            await self._store.cancel(record.id)

    async def judge_stream(self, stream: str) -> None:
        """The same, by the name of the task's stream."""
        record = await self._find(stream)
        if record is not None:
            await self.judge(record)

    async def _find(self, stream: str) -> TaskRecord | None:
        task_id = task_of_stream(stream)
        return await self._store.find(task_id) if task_id else None

    async def _note(self, record: TaskRecord | None, *, since: int) -> None:
        if record is not None and _is_concerned(record):
            await run(self._client, calls.amend(self._keys, record.id, {"unfollowed_since": str(since)}))

    async def _is_followed(self, record: TaskRecord) -> bool:
        found: list[int] = await execute(self._client, "PUBSUB", "SHARDNUMSUB", self._keys.bell(task_stream(record.id)))
        return found[1] > 0

    async def _now_ms(self) -> int:
        seconds, microseconds = await execute(self._client, "TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000


def _is_concerned(record: TaskRecord) -> bool:
    return record.values.get("on_disconnect") == "cancel" and not record.status.is_ended
