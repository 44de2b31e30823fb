"""Tasks that run and readers that follow them while the Redis under them changes, and the oracle for what they saw.

The oracle knows no product code: a task of so many events has ids that count on from 0 in one generation, and every
reader saw each of them once and in order. Nothing may be lost, so no hole may be announced either.

A small crowd in the suite. REPRISE_FAILOVER_TASKS=200 is a large one: 200 tasks that emit 1,000 events a second between
them, and 200 readers. Its figures are printed (`-s`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.product import Product
from tests.e2e.reader import Reader, following

TASKS = int(os.environ.get("REPRISE_FAILOVER_TASKS", "6"))
#: Two readers for each task of a small crowd, one for each of a large one.
_READERS_OF_EACH = 2 if TASKS < 100 else 1
#: At most 1,000 events a second: what 2 cores carry with room for a failover.
INTERVAL_MS = max(20, TASKS)
EVENTS = 400 if TASKS < 100 else 200
_PATIENCE_SECONDS = 120.0 if TASKS < 100 else 300.0


@dataclass
class Crowd:
    """Tasks and their readers: one that stays and one that comes and goes for each task, on different replicas."""

    events: int
    readers: dict[str, list[Reader]] = field(default_factory=dict[str, list[Reader]])
    _ends: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def saw(self, count: int) -> None:
        """Wait until every reader has so many events more than now."""
        before = {id(reader): len(reader.numbered) for reader in self.all}
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for reader in self.all:
                most = self.events + 2
                await reader.has(min(before[id(reader)] + count, most), timeout=_PATIENCE_SECONDS)

    async def ended(self) -> None:
        """Wait until every reader was told that there is nothing more."""
        await asyncio.gather(*self._ends)

    @property
    def all(self) -> list[Reader]:
        return [reader for readers in self.readers.values() for reader in readers]

    async def check(self, product: Product) -> None:
        """Every event was seen once and in order by every reader, and nobody was told of a loss."""
        for task_id, readers in self.readers.items():
            task = await product.task(task_id)
            assert (task["status"], task["attempt"]) == ("completed", 1), task
            for reader in readers:
                assert {event.type for event in reader.events} <= {"attempt", "number", "complete", "position"}
                numbered = reader.numbered
                assert [event.sequence for event in numbered] == list(range(self.events + 2)), reader.path
                assert len({event.generation for event in numbered}) == 1
                numbers = [event.data["number"] for event in numbered if event.type == "number"]
                assert numbers == list(range(self.events))
                assert reader.statuses[-1] == 204
                assert set(reader.statuses) <= {200, 204}


@asynccontextmanager
async def crowd(product: Product, *, tasks: int, events: int, interval_ms: int) -> AsyncGenerator[Crowd]:
    """Start so many tasks, each with its readers."""
    found = Crowd(events)
    async with AsyncExitStack() as stack:
        for number in range(tasks):
            kind = "emit_many_in_thread" if number % 4 == 3 else "emit_many"
            task_id = await product.start_task(kind, count=events, interval_ms=interval_ms)
            there = [server.url for server in product.servers]
            readers = [Reader(there[(number + n) % len(there)], f"/tasks/{task_id}/events") for n in range(2)]
            readers[1].drop_after, readers[1].hurries = 0.9, True
            found.readers[task_id] = readers[:2] if _READERS_OF_EACH == 2 else [readers[number % 2]]
            for reader in found.readers[task_id]:
                found._ends.append(await stack.enter_async_context(following(reader, timeout=_PATIENCE_SECONDS)))
        yield found
