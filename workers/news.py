"""Telling all readers how one attempt goes: its start, its progress, its end.

Invariant: progress is told a few times a second at most, and the last state is always told. Being slow here, or Redis
being away, never holds the task up.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Self

from server.streams.announcements import Announcer
from server.streams.records import Status, TaskRecord

#: Each announcement wakes every reader of `tasks`; faster than this nobody can see a bar move.
_PAUSE_SECONDS: Final = 0.3


class AttemptNews:
    """Announces one attempt. Use as an async context manager around it."""

    def __init__(self, announcer: Announcer, record: TaskRecord) -> None:
        self._announcer = announcer
        self._record = record
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._teller = asyncio.create_task(self._tell(), name=f"news of {self._record.id}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_telling()

    def progressed(self, percentage: int) -> None:
        """Note how far the task is."""
        self._change({"progress": str(percentage)})
        self._changed.set()

    async def became(self, status: Status, end: str | None = None) -> bool:
        """Tell how the attempt ended, after everything else; returns whether readers were told. May be repeated."""
        await self._stop_telling()
        self._change({"status": status.value} | ({} if end is None else {"end": end}))
        return await self._announcer.updated(self._record, to_system=True)

    def _change(self, values: dict[str, str]) -> None:
        changed = self._record.values | values
        self._record = TaskRecord(self._record.id, Status(changed["status"]), changed)

    async def _stop_telling(self) -> None:
        # Waited for and not cancelled: an announcement cut off in mid-flight could overtake the next one.
        self._over.set()
        self._changed.set()
        if self._teller:
            await self._teller

    async def _tell(self) -> None:
        await self._announcer.updated(self._record, to_system=True)
        while not self._over.is_set():
            await self._changed.wait()
            self._changed.clear()
            if not self._over.is_set():
                await self._announcer.progressed(self._record)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), _PAUSE_SECONDS)
