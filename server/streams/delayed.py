"""Delayed sets: tasks of a queue that must not begin yet, in order of their time, by Redis' clock.

Invariant: the record's `not_before` decides, a place in the set is a hint as an entry of a ready stream is one. A task
moves between the two atomically, because they share the queue's slot. Every worker of a queue promotes what is due.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.streams import calls
from server.streams.calls import Call
from server.streams.connections import AsyncClient, execute, run
from server.streams.keys import Keys
from server.streams.records import TaskRecord

#: Moved in one round; with more the next round follows at once.
_MOST: Final = 200


async def postpone(client: AsyncClient, keys: Keys, record: TaskRecord, *, not_before_ms: int) -> None:
    """Put a task into its queue's delayed set, or change its time there."""
    await execute(client, *place(keys, record, not_before_ms=not_before_ms))


def place(keys: Keys, record: TaskRecord, *, not_before_ms: int) -> tuple[str | float, ...]:
    """The command that does, for a step that does more."""
    return ("ZADD", keys.delayed(record.queue), not_before_ms, member_of(record.type, record.id))


def leave(keys: Keys, record: TaskRecord) -> tuple[str, ...]:
    """The command that takes a task out of the set."""
    return ("ZREM", keys.delayed(record.queue), member_of(record.type, record.id))


async def withdraw(client: AsyncClient, keys: Keys, record: TaskRecord) -> None:
    """Take a task out of its queue's delayed set: it has ended."""
    await execute(client, *leave(keys, record))


async def due_at_ms(client: AsyncClient, keys: Keys, record: TaskRecord) -> int | None:
    """Until when the task waits in the delayed set, ms since epoch; None if it is not there."""
    found = await execute(client, "ZSCORE", keys.delayed(record.queue), member_of(record.type, record.id))
    return None if found is None else int(float(found))


async def promote_due(client: AsyncClient, keys: Keys, queue: str) -> int | None:
    """Move what is due to the ready streams; returns in how many ms the next one is, None if there is none."""
    while True:
        found = await run(client, due_call(keys, queue, limit=_MOST))
        by_type: defaultdict[str, list[str]] = defaultdict(list)
        for member in found.members:
            task_type, _, task_id = member.partition("/")
            by_type[task_type].append(task_id)
        for task_type, task_ids in by_type.items():
            entries = await run(client, promote_call(keys, queue, task_type, task_ids))
            for task_id, entry in zip(task_ids, entries, strict=True):
                if entry:
                    await run(client, calls.amend(keys, task_id, {"queue_entry": entry}))
        if len(found.members) < _MOST:
            return found.next_ms


@dataclass(frozen=True, slots=True)
class Due:
    """The head of a delayed set."""

    members: tuple[str, ...]
    #: When the next one will be due; None if there is none.
    next_ms: int | None


def due_call(keys: Keys, queue: str, *, limit: int) -> Call[Due]:
    """What of a queue's delayed set is due by now, at most `limit`."""

    def parse(raw: Sequence[Any]) -> Due:
        return Due(tuple(member.decode() for member in raw[1]), int(raw[0]) if raw[0] else None)

    return Call(calls.script("due"), (keys.delayed(queue),), (limit,), parse)


def promote_call(keys: Keys, queue: str, task_type: str, task_ids: Sequence[str]) -> Call[tuple[str, ...]]:
    """Move tasks of one type from a queue's delayed set to their ready stream.

    Returns the ids of their entries there; "" for one that another process has moved already.
    """
    pairs = [text for task_id in task_ids for text in (member_of(task_type, task_id), task_id)]

    def parse(raw: Sequence[Any]) -> tuple[str, ...]:
        return tuple(entry.decode() for entry in raw)

    return Call(calls.script("promote"), (keys.delayed(queue), keys.ready(queue, task_type)), tuple(pairs), parse)


def member_of(task_type: str, task_id: str) -> str:
    """A task in a delayed set; neither part has a slash."""
    return f"{task_type}/{task_id}"
