"""Pages of tasks, newest first, from an index of them: a sorted set of ids by time.

An index only makes tasks findable: what it names is looked up, and whoever asks says which records he wants.
Invariant: who passes a page's `next_cursor` back misses nothing that was there all the time and gets nothing twice.
Knows nothing of what an index is for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.streams.connections import AsyncClient, execute
from server.streams.records import TaskRecord

_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Tasks, newest first, and where the next page begins (None at the end)."""

    tasks: list[TaskRecord]
    next_cursor: str | None


class Listing:
    """One index. Raises `LogUnavailable`."""

    def __init__(
        self,
        client: AsyncClient,
        index: str,
        find_many: Callable[[Sequence[str]], Awaitable[Sequence[TaskRecord | None]]],
        *,
        is_stale: Callable[[TaskRecord | None], bool] | None = None,
    ) -> None:
        """`is_stale` says of what is found that its entry is of no more use: it is taken off when somebody looks."""
        self._client = client
        self._index = index
        self._find_many = find_many
        self._is_stale = is_stale

    async def page(
        self, *, limit: int, cursor: str | None, is_wanted: Callable[[TaskRecord], bool] | None = None
    ) -> Page:
        """The next tasks that are wanted. `cursor` is a page's `next_cursor`, passed back as it came."""
        found: list[TaskRecord] = []
        place: str | None = None
        async for record_place, record in self._behind(cursor):
            if is_wanted and not is_wanted(record):
                continue
            if len(found) == limit:
                return Page(found, place)
            found.append(record)
            place = record_place
        return Page(found, None)

    async def _behind(self, cursor: str | None) -> AsyncIterator[tuple[str, TaskRecord]]:
        """Every task behind the cursor, each with the cursor to itself."""
        highest, _, after = cursor.partition("-") if cursor else ("+inf", "", "")
        offset = 0
        while True:
            rows = await self._rows(highest, offset)
            records = await self._find_many([task_id for task_id, _ in rows])
            for (task_id, score), record in zip(rows, records, strict=True):
                if self._is_stale and self._is_stale(record):
                    await execute(self._client, "ZREM", self._index, task_id)
                    continue
                offset += 1
                # Equal scores come in reverse order of ids, so those at or above the cursor's were on the last page.
                if record is not None and not (after and score == highest and task_id >= after):
                    yield f"{score}-{task_id}", record
            if len(rows) < _ROWS:
                return

    async def _rows(self, highest: str, offset: int) -> list[tuple[str, str]]:
        command = ("ZREVRANGEBYSCORE", self._index, highest, "-inf", "WITHSCORES", "LIMIT", offset, _ROWS)
        raw: Any = await execute(self._client, *command)
        return [(member.decode(), f"{float(score):.0f}") for member, score in raw]
