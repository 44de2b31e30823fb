"""Unique keys: while a task with a key has not ended, another one of its type with that key is that task.

A key's *holder* names the task that has it. It lies in another slot than the task's record, so no script can change
both, and none has to: the record decides, the holder only says which record to look at.

Theory of operation
1. Whoever wants a task with a key first makes the holder name it (`hold`), then writes its record. The id is decided
   before there is a record.
2. Who finds the holder taken looks at that record. Not ended: it is the task that was asked for. Ended or deleted: the
   holder is taken over, by compare-and-set on its token, so of many that find the same end one succeeds and the others
   look again.
3. No record: whoever took the holder has not come so far, or died, or Redis lost the record. Nobody waits for it: the
   finder writes the record itself, under the id and with the request's hash that the holder names. The script that
   creates a record does so once, so both get the same task.

       A: hold(a) ------------------------------ create(a) -> "exists": a
       B:          hold(b) -> "held by a", no record, create(a) -> "created": a

4. A re-run of an ended task takes the holder first too, naming the terminal event that it replaces. Who finds the
   record still ended with that very event starts the re-run himself, as in 3: otherwise he would take the holder over
   between the two steps of the other, and two tasks would run. The start, too, replaces that very end and no other: the
   first one, coming late, must not start a run that has ended since and lost the key.
5. So nothing has to be released: the end of the record, however it came about, releases the key. The reaper removes
   holders of ended tasks, and keeps those of unfinished ones from expiring, for a holder has an expiry like every key.

What fails without the token: B finds a ended, the re-run of a takes the holder again, B takes it over, both run.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.streams import calls
from server.streams.calls import Call, Lifetimes, Reply
from server.streams.connections import AsyncClient, execute, run
from server.streams.keys import Keys
from server.streams.records import Status, TaskRecord

Find = Callable[[str], Awaitable[TaskRecord | None]]


@dataclass(frozen=True, slots=True)
class Holder:
    """Which task has a key."""

    task_id: str
    #: Hash of the request that creates it, for whoever has to write the record.
    body: str
    token: str
    #: Id of the terminal event that a re-run is to replace; "" if the task is created.
    rerun_of: str = ""
    #: Its record when it was looked at; None for our own, and where there was none.
    record: TaskRecord | None = None

    def has_ended(self, record: TaskRecord | None) -> bool:
        """Whether the key is free again."""
        if record is None or not record.status.is_ended:
            return False
        return record.status is Status.DELETED or record.values.get("last_id") != self.rerun_of

    def awaits_rerun(self, record: TaskRecord | None) -> bool:
        """Whether whoever took it for a re-run has not started that yet."""
        return record is not None and record.status.is_ended and not self.has_ended(record)


class UniqueKeys:
    """The holders of keys. Raises `LogUnavailable` from each method."""

    def __init__(self, client: AsyncClient, keys: Keys, find: Find, *, lifetimes: Lifetimes) -> None:
        self._client = client
        self._keys = keys
        self._find = find
        self._lifetimes = lifetimes

    async def take(
        self, task_type: str, key: str, task_id: str, *, body: str, rerun_of: str = "", delay_ms: int = 0
    ) -> Holder:
        """Take the key for a task, or find who has it: then with the record, unless it has still to be written."""
        wanted = Holder(task_id, body, secrets.token_hex(8), rerun_of)
        replaced = ""
        while True:
            call = hold_call(
                self._keys, task_type, key, wanted, replaced=replaced, expiry_ms=self._lifetimes.live_ms + delay_ms
            )
            other = await run(self._client, call)
            if other is None:
                return wanted
            record = await self._find(other.task_id)
            if not other.has_ended(record):
                return Holder(other.task_id, other.body, other.token, other.rerun_of, record)
            replaced = other.token

    async def keep(self, record: TaskRecord) -> None:
        """See to it that an unfinished task does not lose its key by time alone."""
        if record.unique_key is not None:
            await run(self._client, keep_call(self._keys, record, expiry_ms=self._lifetimes.live_ms))

    async def release(self, record: TaskRecord) -> None:
        """Forget the key of a task that has ended; it is free without that too."""
        if record.unique_key is None:
            return
        name = self._keys.unique(record.type, record.unique_key)
        task, token, rerun_of = await execute(self._client, "HMGET", name, "task", "token", "rerun_of")
        if task is None or task.decode() != record.id:
            return
        holder = Holder(record.id, "", token.decode(), rerun_of.decode())
        # After the token was read: a re-run that has begun since has made another.
        found = await self._find(record.id)
        if holder.has_ended(found):
            await run(self._client, free_call(self._keys, record, token=holder.token))


def hold_call(
    keys: Keys, task_type: str, key: str, wanted: Holder, *, replaced: str, expiry_ms: int
) -> Call[Holder | None]:
    """Take the key; returns who has it instead, None if nobody. `replaced` is the token of an ended holder."""

    def parse(raw: Sequence[Any]) -> Holder | None:
        return None if raw[0] == b"taken" else Holder(*[each.decode() for each in raw[1:]])

    args = (wanted.task_id, wanted.body, wanted.token, replaced, wanted.rerun_of, expiry_ms)
    return Call(calls.script("hold"), (keys.unique(task_type, key),), args, parse)


def keep_call(keys: Keys, record: TaskRecord, *, expiry_ms: int) -> Call[Reply]:
    """Refresh the key of an unfinished task. Outcomes: kept, restored, other."""
    args = (record.id, record.values.get("body", ""), secrets.token_hex(8), expiry_ms)
    return Call(calls.script("keep"), (keys.unique(record.type, record.unique_key or ""),), args, _reply)


def free_call(keys: Keys, record: TaskRecord, *, token: str) -> Call[Reply]:
    """Remove the key of an ended task. Outcomes: freed, other."""
    return Call(calls.script("free"), (keys.unique(record.type, record.unique_key or ""),), (token,), _reply)


def _reply(raw: Sequence[Any]) -> Reply:
    return Reply(raw[0].decode())
