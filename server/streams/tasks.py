"""Tasks: creating, looking up, listing, starting, cancelling and deleting them.

Owns the order of steps across slots: index, record, queue entry, announcement. Whatever dies in between, the reaper
finds the task by its index entry; every step may be repeated.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import time
from typing import Any, Final

from server.streams import calls
from server.streams.announcements import Announcer
from server.streams.calls import Call, Created, Ending, Lifetimes, Reply, T
from server.streams.connections import AsyncClient, cluster_of, execute, execute_many, run
from server.streams.delayed import postpone, withdraw
from server.streams.durability import Durability, execute_durably, run_durably
from server.streams.errors import Conflict, LogUnavailable, NotDurable, Unknown
from server.streams.event import CANCELLED
from server.streams.keys import Keys
from server.streams.listing import Listing, Page
from server.streams.names import parse_task_id, task_stream
from server.streams.new_task import NewTask
from server.streams.ready import enqueue, enqueue_early
from server.streams.records import Status, TaskRecord
from server.streams.unique import UniqueKeys

_LISTED_TASKS: Final = 10_000


class TaskStore:
    """Every way to change a task but running it. Raises `LogUnavailable` from each method.

    What `create`, `start` and `cancel` return is as durable as asked for, as far as it is in the record.
    """

    def __init__(
        self,
        client: AsyncClient,
        keys: Keys,
        announcer: Announcer,
        *,
        lifetimes: Lifetimes,
        may_judge_expired: Callable[[], bool],
        durability: Durability = Durability.FAST,
    ) -> None:
        """`may_judge_expired` tells whether this process has been connected for a lease (docs/protocol.md)."""
        self._client = client
        self._keys = keys
        self._announcer = announcer
        self._lifetimes = lifetimes
        self._may_judge_expired = may_judge_expired
        self._durability = durability
        self._listing = Listing(client, keys.tasks_index, self.find_many)
        self._unique = UniqueKeys(client, keys, self.find, lifetimes=lifetimes)

    async def create(self, new: NewTask, *, idempotency_key: str | None = None) -> TaskRecord:
        """Create a task, and queue it if it is to run. The same key and request give the same task again.

        With a unique key that a task has which has not ended, it is that task, whatever else was asked for.
        Raises `Conflict` if the idempotency key came with another request before, or its task was deleted. Where it
        raises `NotDurable` that names the task, unless it was not created yet; what is named is queued all the same.
        """
        task_id = _derived_id(idempotency_key) if idempotency_key else _random_id()
        body = new.hash()
        # A request that is repeated gets its first answer, although its task may have ended.
        if new.unique_key is None or (idempotency_key and await self.find(task_id)):
            return await self._create(task_id, new, body)
        while True:
            holder = await self._unique.take(
                new.type, new.unique_key, task_id, body=body, delay_ms=new.delay_at_least_ms()
            )
            if holder.record is None:
                try:
                    return await self._create(holder.task_id, new, holder.body)
                except Conflict:
                    if idempotency_key:
                        raise
                    task_id = _random_id()  # somebody was faster with it, and it has ended and was deleted since
            elif holder.awaits_rerun(holder.record):
                with suppress(Unknown):
                    await self._start(holder.record, rerun_of=holder.record.attempt)
            else:
                await self._queue_unless_queued(holder.record)
                if await self._is_kept(holder.record):
                    return holder.record

    async def _is_kept(self, record: TaskRecord) -> bool:
        """Wait until a record that others wrote is as durable as asked for; False if a failover has lost it."""
        # Any write does; this one says what stands there already, and brings nothing into being.
        call = calls.amend(self._keys, record.id, {"type": record.type})
        is_kept = True

        def heard(reply: Reply) -> None:
            nonlocal is_kept
            is_kept = reply.outcome == "amended"

        if self._durability.wait is not None:
            await run_durably(self._client, lambda: call, self._durability, heard=heard)
        return is_kept

    async def _run(
        self,
        build: Callable[[], Call[T]],
        check: Callable[[T], object],
        follow_up: Callable[[list[T]], Awaitable[TaskRecord]],
    ) -> TaskRecord:
        """Run a script of a record until what it wrote is as durable as asked for, and what it entails.

        `follow_up` is told the answers of all tries. The last one is what counts, and an earlier one may have been
        "done" where the last is "done already". `check` raises where nothing was done, nor was before.
        """
        if self._durability.wait is None:
            answer = await run(self._client, build())
            check(answer)
            return await follow_up([answer])
        answers: list[T] = []

        def heard(answer: T) -> None:
            check(answer)
            answers.append(answer)

        try:
            await run_durably(self._client, build, self._durability, heard=heard)
        except NotDurable:
            # It took effect, and whoever asks again finds it done already. What is missing then the reaper finds.
            with suppress(LogUnavailable, Unknown):
                await follow_up(answers)
            raise
        return await follow_up(answers)

    async def _create(self, task_id: str, new: NewTask, body: str) -> TaskRecord:
        await self._index(task_id)
        call = calls.create(
            self._keys,
            task_id,
            body=body,
            values=new.values(),
            lifetimes=self._lifetimes,
            delay_ms=new.delay_ms,
            not_before_ms=new.not_before_ms,
        )

        async def follow_up(answers: list[Created]) -> TaskRecord:
            record = _record_of(answers[-1])
            if len(answers) > 1:  # what lost the record lost the index entry too
                await self._index(task_id)
            await self._queue_unless_queued(record)
            if any(each.outcome == "created" for each in answers):
                await self._announcer.created(record)
            return record

        try:
            return await self._run(lambda: call, _record_of, follow_up)
        except NotDurable as error:
            error.task_id = task_id
            raise

    async def get(self, task_id: str) -> TaskRecord:
        """The task. Raises `Unknown`."""
        record = await self.find(parse_task_id(task_id))
        if record is None or record.status is Status.DELETED:
            raise _unknown(task_id)
        return record

    async def find(self, task_id: str) -> TaskRecord | None:
        """The task's record or the marker it left; None if there is neither."""
        found = await self.find_many([task_id])
        return found[0]

    async def find_many(self, task_ids: Sequence[str]) -> Sequence[TaskRecord | None]:
        """The same of several, in one round trip."""
        if not task_ids:
            return []
        replies: list[dict[bytes, bytes]] = await execute_many(
            self._client, [("HGETALL", self._keys.record(task_id)) for task_id in task_ids]
        )
        return [
            TaskRecord.decode(task_id, [part for item in reply.items() for part in item]) if reply else None
            for task_id, reply in zip(task_ids, replies, strict=True)
        ]

    async def start(self, task_id: str, *, rerun_of: int | None = None) -> TaskRecord:
        """Let a pending task run, or an ended one again if `rerun_of` is its newest attempt. Raises `Unknown`.

        One that was put off when it was created runs now; one that waits to be tried again keeps its pause.
        Raises `Conflict` if another task has its unique key by now.
        """
        record = await self.get(task_id)
        if not record.status.is_ended or record.attempt != rerun_of:
            return await self._start(record, rerun_of=None)
        if record.unique_key is not None:
            await self._retake_key(record, record.unique_key)
        return await self._start(record, rerun_of=rerun_of)

    async def _start(self, record: TaskRecord, *, rerun_of: int | None) -> TaskRecord:
        """The same for a task as it was seen: if it has ended otherwise meanwhile, nothing starts."""
        task_id = record.id
        await self._index(task_id, only_unfinished=True)
        end = record.values.get("last_id", "") if rerun_of is not None else ""
        call = calls.start(self._keys, task_id, rerun_of=rerun_of, lifetimes=self._lifetimes, end=end)

        def check(reply: Reply) -> None:
            if reply.outcome == "missing":
                raise _unknown(task_id)

        async def follow_up(answers: list[Reply]) -> TaskRecord:
            if len(answers) > 1:
                await self._index(task_id, only_unfinished=True)
            record = await self.get(task_id)
            if any(each.outcome == "started" for each in answers):
                await execute(self._client, "ZREM", self._keys.dead_index, task_id)
                await enqueue_early(self._client, self._keys, record)
                await self._announcer.updated(record, to_system=True)
            return record

        return await self._run(lambda: call, check, follow_up)

    async def cancel(self, task_id: str) -> TaskRecord:
        """Ask for the end of a task: at once where no worker runs it. An ended one stays as it is. Raises `Unknown`."""
        parse_task_id(task_id)
        ending = Ending(Status.CANCELLED.value, CANCELLED, "{}")

        def check(reply: Reply) -> None:
            if reply.outcome == "missing":
                raise _unknown(task_id)

        async def follow_up(answers: list[Reply]) -> TaskRecord:
            record = await self.get(task_id)
            if any(each.outcome == "settled" for each in answers):
                await self._announcer.updated(record, to_system=True)
                if record.not_before_ms:
                    await withdraw(self._client, self._keys, record)
            return record

        return await self._run(lambda: self._settling(task_id, ending, mode="cancel"), check, follow_up)

    async def settle(self, task_id: str, ending: Ending, *, mode: str) -> Reply:
        """End a task that has no living writer (see `calls.settle`)."""
        return await run(self._client, self._settling(task_id, ending, mode=mode))

    def _settling(self, task_id: str, ending: Ending, *, mode: str) -> Call[Reply]:
        return calls.settle(
            self._keys,
            task_id,
            ending,
            mode=mode,
            entropy=secrets.randbelow(1000),
            lifetimes=self._lifetimes,
            may_judge_expired=self._may_judge_expired(),
        )

    async def expire(self, task_id: str) -> str:
        """End a task whose lease has run out, if it must not be tried again; returns the outcome (`calls.expire`)."""
        call = calls.expire(self._keys, task_id, entropy=secrets.randbelow(1000), lifetimes=self._lifetimes)
        reply = await run(self._client, call)
        if reply.outcome == "settled":
            await self._announcer.updated(await self.get(task_id), to_system=True)
        return reply.outcome

    async def announce_end(self, record: TaskRecord) -> bool:
        """Tell everybody of an end, whoever brought it about; returns whether they were told. May be repeated."""
        return await self._announcer.updated(record, to_system=True)

    async def delete(self, task_id: str) -> None:
        """Remove an ended task. Raises `Unknown`, and `Conflict` if it has not ended."""
        record = await self.find(parse_task_id(task_id))
        reply = await run(self._client, calls.delete(self._keys, task_id, lifetimes=self._lifetimes))
        if reply.outcome == "missing":
            raise Unknown(f"There is no task {task_id!r}. It may have been deleted already.")
        if reply.outcome == "running":
            raise Conflict(f"Task {task_id!r} has not ended. Cancel it first, then delete it.")
        for index in (self._keys.tasks_index, self._keys.unfinished_index, self._keys.dead_index):
            await execute(self._client, "ZREM", index, task_id)
        if record is not None:
            await self._unique.release(record)

    async def list(
        self, *, status: Status | None, task_type: str | None, limit: int, cursor: str | None = None
    ) -> Page:
        """A page of tasks, newest first. `cursor` is a page's `next_cursor`, passed back as it came."""

        def is_wanted(record: TaskRecord) -> bool:
            is_kind = (status is None or record.status is status) and (task_type is None or record.type == task_type)
            return is_kind and record.status is not Status.DELETED

        return await self._listing.page(limit=limit, cursor=cursor, is_wanted=is_wanted)

    async def unfinished(self, *, limit: int, offset: int) -> list[tuple[str, float]]:
        """Ids in the index of unfinished tasks, oldest first, with the time of their entry in seconds."""
        raw: Any = await execute(
            self._client, "ZRANGE", self._keys.unfinished_index, offset, offset + limit - 1, "WITHSCORES"
        )
        return [(task_id.decode(), float(score) / 1000) for task_id, score in raw]

    async def forget_unfinished(self, task_id: str) -> None:
        """Take a task off the index of unfinished ones: it has ended."""
        await execute(self._client, "ZREM", self._keys.unfinished_index, task_id)

    async def restore_index(self, task_id: str) -> None:
        """Put a running task back on the indexes, after Redis lost them."""
        await self._index(task_id, is_promised=False)

    async def keep_waiting(self, record: TaskRecord) -> None:
        """Keep a task that waits for a worker from expiring, and what it has emitted so far."""
        names = (self._keys.record(record.id), self._keys.log(task_stream(record.id)))
        await execute_many(self._client, [("PEXPIRE", name, self._lifetimes.live_ms, "GT") for name in names])

    async def keep_key(self, record: TaskRecord) -> None:
        """See to it that an unfinished task keeps its unique key."""
        await self._unique.keep(record)

    async def release_key(self, record: TaskRecord) -> None:
        """Forget the unique key of a task that has ended."""
        await self._unique.release(record)

    async def _retake_key(self, record: TaskRecord, key: str) -> None:
        end = record.values.get("last_id", "")
        body = record.values.get("body", "")
        holder = await self._unique.take(record.type, key, record.id, body=body, rerun_of=end)
        if holder.task_id != record.id:
            raise Conflict(
                f"Task {holder.task_id!r} has the unique_key {key!r} of task {record.id!r} and has not ended. "
                "Wait for its end, or cancel it first."
            )

    async def _queue_unless_queued(self, record: TaskRecord) -> None:
        """Put a new task where workers look for it, or where it waits for its time."""
        if record.status is not Status.PENDING or not record.is_queued or "queue_entry" in record.values:
            return
        if record.not_before_ms:
            await postpone(self._client, self._keys, record, not_before_ms=record.not_before_ms)
        else:
            await enqueue(self._client, self._keys, record)

    async def _index(self, task_id: str, *, only_unfinished: bool = False, is_promised: bool = True) -> None:
        # Before the record: a record without an index entry would never be found by the reaper.
        now = int(time() * 1000)
        if is_promised and cluster_of(self._client) and self._durability.wait is not None:
            # It lies at another node than the record, so waiting for that one says nothing of it. Without NX it is a
            # write each time; that makes the entry younger, and nothing else.
            await execute_durably(self._client, ("ZADD", self._keys.unfinished_index, now, task_id), self._durability)
        else:
            await execute(self._client, "ZADD", self._keys.unfinished_index, "NX", now, task_id)
        if not only_unfinished:
            await execute(self._client, "ZADD", self._keys.tasks_index, "NX", now, task_id)
            await execute(self._client, "ZREMRANGEBYRANK", self._keys.tasks_index, 0, -_LISTED_TASKS - 1)


def _unknown(task_id: str) -> Unknown:
    return Unknown(f"There is no task {task_id!r}. It may have been deleted, or its record has expired.")


def _record_of(created: Created) -> TaskRecord:
    """The record of a task that was asked for. Raises `Conflict`."""
    if created.record is None:
        raise Conflict("This Idempotency-Key was used with another request. Use a new key for a new request.")
    if created.record.status is Status.DELETED:
        raise Conflict("The task made with this Idempotency-Key was deleted. Use a new key for a new task.")
    return created.record


def _random_id() -> str:
    return _id_text(secrets.token_bytes(15))


def _derived_id(idempotency_key: str) -> str:
    return _id_text(hashlib.sha256(b"reprise task\0" + idempotency_key.encode()).digest()[:15])


def _id_text(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()
