"""Dead letters: tasks that were given up, with all that a person needs to decide what becomes of them.

A dead letter is the task's own record, marked `dead` in the step that ended it, and kept for longer than others. The
index only makes them findable: whoever ends such a task adds it, whoever meets it later adds it again, so it is in
there once. What the index names and the record does not confirm is taken off when somebody looks (ADR 0008).
"""

from __future__ import annotations

from time import time
from typing import Any, Final

from server.streams import calls
from server.streams.calls import Lifetimes
from server.streams.connections import AsyncClient, execute, execute_many, run
from server.streams.errors import Unknown
from server.streams.keys import Keys
from server.streams.listing import Listing, Page
from server.streams.names import parse_task_id
from server.streams.records import TaskRecord, rfc3339
from server.streams.tasks import TaskStore

#: Beyond, somebody has stopped looking: the oldest are still tasks, but in no list.
_MOST: Final = 10_000


class DeadLetters:
    """Finds dead letters, and lets a person decide on them. Raises `LogUnavailable` from each method."""

    def __init__(self, client: AsyncClient, keys: Keys, store: TaskStore, *, lifetimes: Lifetimes) -> None:
        self._client = client
        self._keys = keys
        self._store = store
        self._lifetimes = lifetimes
        self._listing = Listing(client, keys.dead_index, store.find_many, is_stale=_is_no_dead_letter)

    async def add(self, task_id: str) -> None:
        """Make a task findable that was ended as a dead letter. May be repeated."""
        await execute_many(
            self._client,
            [
                ("ZADD", self._keys.dead_index, "NX", int(time() * 1000), task_id),
                ("ZREMRANGEBYRANK", self._keys.dead_index, 0, -_MOST - 1),
            ],
        )

    async def get(self, task_id: str) -> TaskRecord:
        """The dead letter of a task. Raises `Unknown`."""
        record = await self._store.find(parse_task_id(task_id))
        if record is None or not record.is_dead_letter:
            raise Unknown(
                f"There is no dead letter {task_id!r}. The task has not failed, or it was retried or deleted, "
                "or it has expired."
            )
        return record

    async def list(self, *, limit: int, cursor: str | None = None) -> Page:
        """A page, newest first. `cursor` is a page's `next_cursor`, passed back as it came."""
        return await self._listing.page(limit=limit, cursor=cursor)

    async def retry(self, task_id: str) -> TaskRecord:
        """Run the task again, from its beginning and with all its attempts. Raises `Unknown`.

        Asking again while it runs gives the running task.
        """
        record = await self._store.find(parse_task_id(task_id))
        if record is not None and not record.status.is_ended:
            return record
        record = await self.get(task_id)
        return await self._store.start(task_id, rerun_of=record.attempt)

    async def discard(self, task_id: str) -> None:
        """Forget that the task is a dead letter; it stays an ended task until it expires. Raises `Unknown`."""
        await self.get(task_id)
        await run(self._client, calls.discard(self._keys, task_id, lifetimes=self._lifetimes))
        await execute(self._client, "ZREM", self._keys.dead_index, task_id)


def _is_no_dead_letter(record: TaskRecord | None) -> bool:
    return record is None or not record.is_dead_letter


def summary(record: TaskRecord) -> dict[str, Any]:
    """A dead letter in a list."""
    return {
        "task_id": record.id,
        "type": record.type,
        "title": record.values.get("title", record.type),
        "queue": record.queue,
        "attempts": record.attempt,
        "error": record.as_json()["error"],
        "code": record.end_code,
        "created_at": rfc3339(record.values.get("created_at")),
        "failed_at": rfc3339(record.values.get("ended_at")),
    }


def details(record: TaskRecord) -> dict[str, Any]:
    """The same with the input, and how each attempt failed."""
    return summary(record) | {
        "input": record.input,
        "errors": [each | {"at": rfc3339(str(each["at"]))} for each in record.errors],
    }
