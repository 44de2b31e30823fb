"""Ready queues: streams of task ids to look at, read by the consumer group `workers`.

Invariant: an entry is a hint and the record decides, so a duplicate or a late entry is harmless and a lost one is found
by the reaper. Entries are acked and deleted together, last of all; work is never trimmed.
Source: XREADGROUP, XAUTOCLAIM, XCLAIM.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from server.streams import calls
from server.streams.connections import AsyncClient, SyncClient, execute, execute_many, execute_sync, run
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys

GROUP: Final = "workers"


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A hint to look at a task."""

    queue: str
    id: str
    task_id: str


async def enqueue(client: AsyncClient, keys: Keys, *, queue: str, task_id: str) -> str:
    """Add an entry for the task, note it in the record, and return the entry's id."""
    raw: bytes = await execute(client, "XADD", keys.ready(queue), "*", "task", task_id)
    await run(client, calls.amend(keys, task_id, {"queue_entry": raw.decode()}))
    return raw.decode()


async def has_entry(client: AsyncClient, keys: Keys, *, queue: str, entry_id: str) -> bool:
    """Whether the entry still waits or is held by a worker."""
    return bool(await execute(client, "XRANGE", keys.ready(queue), entry_id, entry_id, "COUNT", 1))


async def ensure_group(client: AsyncClient, keys: Keys, queue: str) -> None:
    """Create the consumer group at the queue's beginning if it is not there."""
    try:
        await execute(client, "XGROUP", "CREATE", keys.ready(queue), GROUP, "0", "MKSTREAM")
    except LogUnavailable as error:
        if "BUSYGROUP" not in str(error):
            raise


class ReadyQueue:
    """One worker's end of the queues it serves. `blocking` must have no socket timeout below `block_ms`."""

    def __init__(
        self,
        client: AsyncClient,
        blocking: AsyncClient,
        keys: Keys,
        *,
        queues: tuple[str, ...],
        consumer: str,
    ) -> None:
        self._client = client
        self._blocking = blocking
        self._keys = keys
        self._queues = queues
        self._consumer = consumer

    async def take(self, *, limit: int, block_ms: int) -> list[QueueEntry]:
        """New entries, at most `limit` per queue: no more than can be run now, or they age in the pending list."""
        streams = [self._keys.ready(queue) for queue in self._queues]
        command = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", limit, "BLOCK", block_ms, "STREAMS")
        try:
            reply = await execute(self._blocking, *command, *streams, *[">"] * len(streams))
        except LogUnavailable as error:
            if "NOGROUP" not in str(error):
                raise
            for queue in self._queues:
                await ensure_group(self._client, self._keys, queue)
            return []
        by_key = dict(zip(streams, self._queues, strict=True))
        return [entry for key, rows in dict(reply or {}).items() for entry in _entries(by_key[key.decode()], rows)]

    async def take_over(self, *, idle_ms: int, limit: int) -> list[QueueEntry]:
        """Entries whose worker has not touched them for `idle_ms`."""
        found: list[QueueEntry] = []
        for queue in self._queues:
            # One call looks at ten times its COUNT and no further, so those that are alive would hide one behind them.
            command = ("XAUTOCLAIM", self._keys.ready(queue), GROUP, self._consumer, idle_ms)
            start = b"0-0"
            while len(found) < limit:
                try:
                    reply = await execute(self._client, *command, start, "COUNT", limit - len(found))
                except LogUnavailable as error:
                    if "NOGROUP" in str(error):
                        break
                    raise
                start = reply[0]
                found.extend(_entries(queue, reply[1]))
                if start == b"0-0":
                    break
        return found

    async def settle(self, entry: QueueEntry) -> None:
        """Ack and delete the entry, in one step."""
        await self._leave(entry, put_back=False)

    async def put_back(self, entry: QueueEntry) -> None:
        """Give the task to another worker: a new entry for the old one, in one step."""
        new_id = await self._leave(entry, put_back=True)
        await run(self._client, calls.amend(self._keys, entry.task_id, {"queue_entry": new_id}))

    async def _leave(self, entry: QueueEntry, *, put_back: bool) -> str:
        key = self._keys.ready(entry.queue)
        added = [("XADD", key, "*", "task", entry.task_id)] if put_back else []
        left = [("XACK", key, GROUP, entry.id), ("XDEL", key, entry.id)]
        replies = await execute_many(self._client, [*added, *left], in_one_step=True)
        return replies[0].decode() if put_back else ""

    async def leave(self) -> None:
        """Remove this consumer from its queues, for good. One that still holds entries stays: they would be lost."""
        for queue in self._queues:
            key = self._keys.ready(queue)
            with suppress(LogUnavailable):  # no group: nothing to leave
                pending = await execute(self._client, "XPENDING", key, GROUP)
                if self._consumer.encode() not in {each["name"] for each in pending["consumers"]}:
                    await execute(self._client, "XGROUP", "DELCONSUMER", key, GROUP, self._consumer)


def touch_sync(client: SyncClient, keys: Keys, entry: QueueEntry, *, consumer: str) -> None:
    """Reset the entry's idle time, from a thread: its task was just renewed."""
    try:
        execute_sync(client, "XCLAIM", keys.ready(entry.queue), GROUP, consumer, 0, entry.id)  # JUSTID trips redis-py
    except LogUnavailable as error:
        if "NOGROUP" not in str(error):  # the queue was lost; the record, which decides, was renewed
            raise


def _entries(queue: str, rows: Any) -> list[QueueEntry]:
    found: list[QueueEntry] = []
    for raw_id, fields in rows:
        values = cast("dict[bytes, bytes]", fields)
        found.append(QueueEntry(queue, raw_id.decode(), values.get(b"task", b"").decode()))
    return found
