"""Ready queues: streams of task ids to look at, one per queue and task type, read by the consumer group `workers`.

Invariant: an entry is a hint and the record decides, so a duplicate or a late entry is harmless and a lost one is found
by the reaper. A worker reads the streams of its queues and of the types that it offers, and no others; of a queue only
while those that are more urgent to it have nothing. Entries are acked and deleted
together, last of all; work is never trimmed.
Source: XREADGROUP, XAUTOCLAIM, XCLAIM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, cast

from server.streams import calls
from server.streams.blocking import read_first
from server.streams.calls import Call
from server.streams.connections import (
    AsyncClient,
    Command,
    SyncClient,
    cluster_of,
    execute,
    execute_many,
    execute_many_sync,
    run,
    together,
)
from server.streams.delayed import leave, place
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.records import TaskRecord

GROUP: Final = "workers"
#: A worker that fetches is seen twice a second, one whose tasks fill it five times a lease.
_GONE_MS: Final = 3_600_000
#: What Redis says of a key that is not there, without a code of its own.
_NO_STREAM: Final = "no such key"


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A hint to look at a task."""

    #: The ready stream that holds it.
    stream: str
    id: str
    task_id: str

    @property
    def task_type(self) -> str:
        """The type whose stream it is."""
        return _type_of(self.stream)


class Room:
    """How many entries can be run at once: in all, and of each type that has a limit. Counts down what is taken."""

    def __init__(self, total: int, of_type: Mapping[str, int] | None = None) -> None:
        self.total = total
        self.of_type = dict(of_type or {})

    def of(self, stream: str) -> int:
        """How many of one stream."""
        return min(self.total, self.of_type.get(_type_of(stream), self.total))

    def has_limit(self, stream: str) -> bool:
        return _type_of(stream) in self.of_type

    def take(self, entries: Sequence[QueueEntry]) -> None:
        """Count entries that were taken."""
        self.total -= len(entries)
        for entry in entries:
            if entry.task_type in self.of_type:
                self.of_type[entry.task_type] -= 1


async def enqueue(client: AsyncClient, keys: Keys, record: TaskRecord) -> str:
    """Add an entry for the task where workers of its type look, note it in the record, and return the entry's id."""
    raw: bytes = await execute(client, "XADD", _stream_of(keys, record), "*", "task", record.id)
    await run(client, calls.amend(keys, record.id, {"queue_entry": raw.decode()}))
    return raw.decode()


async def enqueue_early(client: AsyncClient, keys: Keys, record: TaskRecord) -> None:
    """The same for a task that may still have a place in the delayed set, which it loses in the same step."""
    added = ("XADD", _stream_of(keys, record), "*", "task", record.id)
    replies = await execute_many(client, [added, leave(keys, record)], in_one_step=True)
    await run(client, calls.amend(keys, record.id, {"queue_entry": replies[0].decode()}))


async def has_entry(client: AsyncClient, keys: Keys, record: TaskRecord) -> bool:
    """Whether the task's newest entry still waits or is held by a worker."""
    entry_id = record.values.get("queue_entry")
    if not entry_id:
        return False
    return bool(await execute(client, "XRANGE", _stream_of(keys, record), entry_id, entry_id, "COUNT", 1))


@dataclass(slots=True)
class _Level:
    """Streams of the same urgency."""

    streams: tuple[str, ...]
    #: Where the next round begins, so that no stream is always the last to be asked.
    next: int = 0


class ReadyQueue:
    """One worker's end of the streams it reads. `blocking` must have no socket timeout below `block_ms`."""

    def __init__(
        self, client: AsyncClient, blocking: AsyncClient, keys: Keys, *, levels: Sequence[Sequence[str]], consumer: str
    ) -> None:
        """`levels` are streams that are looked at together, the most urgent first."""
        self._client = client
        self._blocking = blocking
        self._keys = keys
        self._levels = [_Level(tuple(streams)) for streams in levels]
        self._streams = tuple(stream for streams in levels for stream in streams)
        self._consumer = consumer

    async def ensure_groups(self) -> None:
        """Create each consumer group that is not there, at the beginning of its stream."""
        for stream in self._streams:
            try:
                await execute(self._client, "XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
            except LogUnavailable as error:
                if error.code != "BUSYGROUP":
                    raise

    async def look(self, room: Room) -> list[QueueEntry]:
        """New entries that fit, the most urgent first, without waiting: no more, or they age in the pending list."""
        found: list[QueueEntry] = []
        try:
            for level in self._levels:
                await self._sweep(level, room, found)
        except LogUnavailable as error:
            if error.code == "NOGROUP":
                await self.ensure_groups()
            elif not found:
                raise
        return found  # what was taken before an error is ours: nobody else would look at it for a lease

    async def wait(self, room: Room, *, block_ms: int) -> list[QueueEntry]:
        """New entries where there were none, as soon as there are some.

        Only when several streams get their first entry at the same moment it may be more than fit; then the most urgent
        come first.
        """
        streams = [stream for stream in self._streams if room.of(stream) > 0]
        count = min([max(1, room.total // len(streams)), *[room.of(stream) for stream in streams]])
        try:
            return await self._read(streams, count, "BLOCK", block_ms)
        except LogUnavailable as error:
            if error.code != "NOGROUP":
                raise
            await self.ensure_groups()
            return []

    async def _sweep(self, level: _Level, room: Room, found: list[QueueEntry]) -> None:
        """Add what the level has and fits: less only if it has no more, for then the next one's turn comes."""
        before = -1
        while room.total > 0 and before < len(found):
            before = len(found)
            await self._round(level, room, found)

    async def _round(self, level: _Level, room: Room, found: list[QueueEntry]) -> None:
        """One look at each stream of the level. COUNT is per stream, so what has a limit is read by itself."""
        waiting = [*level.streams[level.next :], *level.streams[: level.next]]
        while waiting and room.total > 0:
            count = max(1, room.total // len(waiting))
            some = _alike(waiting, room)
            waiting = waiting[len(some) :]
            if fits := min(count, room.of(some[0])):
                try:
                    entries = await self._read(some, fits)
                except LogUnavailable as error:
                    if error.code != "NOGROUP":  # the node of these is away, perhaps: the next round begins behind them
                        level.next = (level.next + len(some)) % len(level.streams)
                    raise
                room.take(entries)
                found += entries
            level.next = (level.next + len(some)) % len(level.streams)

    async def _read(self, streams: Sequence[str], count: int, *block: str | int) -> list[QueueEntry]:
        words = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, *block, "STREAMS")
        commands = [(*words, *some, *[">"] * len(some)) for some in together(self._blocking, streams)]
        cluster = cluster_of(self._blocking)
        if cluster is not None and block and len(commands) > 1:
            replies = await read_first(cluster, commands)
        else:
            replies = await self._read_each(commands)
        found: list[QueueEntry] = []
        for reply in replies:
            for stream, rows in dict(reply or {}).items():
                found += _entries(stream.decode(), rows)
        return found

    async def _read_each(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        failure: LogUnavailable | None = None
        for command in commands:
            try:
                replies.append(await execute(self._blocking, *command))
            except LogUnavailable as error:
                failure = failure or error  # the other nodes of a Cluster have work, too
        if failure and not any(replies):
            raise failure
        return replies  # what was taken beside an error is ours

    async def take_over(self, room: Room, *, idle_ms: int) -> list[QueueEntry]:
        """Entries that fit and whose worker has not touched them for `idle_ms`."""
        found: list[QueueEntry] = []
        failure: LogUnavailable | None = None
        for stream in self._streams:
            try:
                await self._take_over_from(stream, room, idle_ms, found)
            except LogUnavailable as error:
                if error.code == "NOGROUP":
                    continue
                failure = failure or error
                if not cluster_of(self._client):
                    break
        if failure and not found:
            raise failure
        return found  # what was claimed beside an error is ours

    async def _take_over_from(self, stream: str, room: Room, idle_ms: int, found: list[QueueEntry]) -> None:
        # One call looks at ten times its COUNT and no further, so those that are alive would hide one behind them.
        command = ("XAUTOCLAIM", stream, GROUP, self._consumer, idle_ms)
        start = b"0-0"
        while room.of(stream) > 0:
            reply = await execute(self._client, *command, start, "COUNT", room.of(stream))
            start = reply[0]
            entries = _entries(stream, reply[1])
            room.take(entries)
            found += entries
            if start == b"0-0":
                break

    async def settle(self, entry: QueueEntry) -> None:
        """Ack and delete the entry, in one step."""
        await self._leave(entry, put_back=False)

    async def put_back(self, entry: QueueEntry) -> None:
        """Give the task to another worker: a new entry for the old one, in one step."""
        new_id = await self._leave(entry, put_back=True)
        await run(self._client, calls.amend(self._keys, entry.task_id, {"queue_entry": new_id}))

    async def move(self, entry: QueueEntry, record: TaskRecord) -> None:
        """Take an entry out of a stream where its task does not belong, once there is one where it does."""
        await enqueue(self._client, self._keys, record)
        await self.settle(entry)

    async def postpone(self, entry: QueueEntry, record: TaskRecord, *, not_before_ms: int) -> None:
        """Move the task to its queue's delayed set, in one step."""
        later = place(self._keys, record, not_before_ms=not_before_ms)
        left = [("XACK", entry.stream, GROUP, entry.id), ("XDEL", entry.stream, entry.id)]
        await execute_many(self._client, [later, *left], in_one_step=True)

    async def _leave(self, entry: QueueEntry, *, put_back: bool) -> str:
        added = [("XADD", entry.stream, "*", "task", entry.task_id)] if put_back else []
        left = [("XACK", entry.stream, GROUP, entry.id), ("XDEL", entry.stream, entry.id)]
        replies = await execute_many(self._client, [*added, *left], in_one_step=True)
        return replies[0].decode() if put_back else ""

    async def retire_gone(self) -> None:
        """Remove what workers that were killed left in the groups, once others have taken their entries over.

        A worker that lives is no loss either: its next command makes it known again.
        """
        for stream in self._streams:
            try:
                await run(self._client, Call(calls.script("retire"), (stream,), (GROUP, _GONE_MS), int))
            except LogUnavailable as error:
                if error.code != "NOGROUP" and _NO_STREAM not in str(error):
                    raise

    async def leave(self) -> None:
        """Remove this consumer from its streams, for good. One that still holds entries stays: they would be lost."""
        for stream in self._streams:
            with suppress(LogUnavailable):  # no group: nothing to leave
                pending = await execute(self._client, "XPENDING", stream, GROUP)
                if self._consumer.encode() not in {each["name"] for each in pending["consumers"]}:
                    await execute(self._client, "XGROUP", "DELCONSUMER", stream, GROUP, self._consumer)


def touch_many_sync(client: SyncClient, entries: Iterable[QueueEntry], *, consumer: str) -> None:
    """Reset the idle times of entries, from a thread: their tasks were just renewed."""
    # JUSTID trips redis-py.
    commands = [("XCLAIM", entry.stream, GROUP, consumer, 0, entry.id) for entry in entries]
    for reply in execute_many_sync(client, commands) if commands else ():
        # Without the group the queue was lost; the record, which decides, was renewed.
        if isinstance(reply, LogUnavailable) and reply.code != "NOGROUP":
            raise reply


def _alike(streams: Sequence[str], room: Room) -> Sequence[str]:
    """The first stream, or the first few that one command may read: without limits, and no more than there is room."""
    if room.has_limit(streams[0]):
        return streams[:1]
    return list(takewhile(lambda stream: not room.has_limit(stream), streams))[: room.total]


def _type_of(stream: str) -> str:
    return stream.rpartition(":")[2]  # a type has no colon


def _stream_of(keys: Keys, record: TaskRecord) -> str:
    return keys.ready(record.queue, record.type)


def _entries(stream: str, rows: Any) -> list[QueueEntry]:
    found: list[QueueEntry] = []
    for raw_id, fields in rows:
        values = cast("dict[bytes, bytes]", fields)
        found.append(QueueEntry(stream, raw_id.decode(), values.get(b"task", b"").decode()))
    return found
