"""Redis loses what a running task wrote: the worker writes it again; without a worker readers are told what is missing.

The log or everything is deleted behind the product's back. What may never happen is that a reader hears nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.product import Product, log_key, product
from tests.e2e.reader import TERMINAL, Reader, assert_whole, following
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

SETTINGS = {"REPRISE_LEASE_SECONDS": "4", "REPRISE_SWEEP_SECONDS": "0.5"}
#: Where the worker lives: a server waits for what it writes back for a part of the lease, and nobody for its end.
LASTING = {**SETTINGS, "REPRISE_LEASE_SECONDS": "20"}


@pytest.mark.parametrize("loss", ["DEL", "FLUSHALL"])
async def test_a_running_task_loses_its_log_and_every_reader_still_gets_every_event(
    loss: str, tmp_path: Path, enough: Path
):
    async with product(tmp_path, settings=LASTING) as found:
        task_id = await found.start_task("emit_many", count=100, interval_ms=10, until=str(enough))
        path = f"/tasks/{task_id}/events"
        staying, returning, late = (Reader(found.url, path, hurries=True) for _ in range(3))
        returning.drop_after = 0.3
        async with following(staying) as stayed, following(returning) as returned:
            # Soon: a worker writes back what it wrote during the last ten seconds.
            await asyncio.gather(staying.has(20), returning.has(20))
            lose(found, loss, task_id)
            returning.drop_after = 0.01  # it comes back right now, again and again, while nothing is there
            async with following(late) as came_late:
                seen = len(staying.numbered)
                await asyncio.gather(staying.has(seen + 100), late.has(seen + 100))
                enough.touch()
                await asyncio.gather(stayed, returned, came_late)
        emitted = found.emitted_in_all(task_id)
        for reader in (staying, returning, late):
            assert_whole(reader.events, emitted=emitted)
            assert reader.statuses[-1] == 204
        assert (await found.task(task_id))["status"] == "completed"


@pytest.mark.parametrize("loss", ["DEL", "FLUSHALL"])
async def test_the_log_is_lost_with_its_worker_and_readers_are_told(loss: str, tmp_path: Path):
    async with product(tmp_path, settings=SETTINGS) as found:
        task_id = await found.start_task("emit_many", count=100_000, interval_ms=10)
        path = f"/tasks/{task_id}/events"
        staying, returning = (
            Reader(found.url, path, hurries=True),
            Reader(found.url, path, drop_after=0.5, hurries=True),
        )
        async with following(staying), following(returning):
            await asyncio.gather(staying.has(50), returning.has(50))
            await found.workers[0].kill()
            lose(found, loss, task_id)
            returning.drop_after = None
            for reader in (staying, returning):
                await wait_until(
                    lambda reader=reader: is_told(reader),
                    description=f"a gap, an end or 404 after {reader.types[-1]} and {reader.statuses[-3:]}",
                )
        for reader in (staying, returning):
            assert reader.types.count("gap") <= 1, reader.types[-5:]
            assert [event.sequence for event in reader.numbered][:50] == list(range(50))


async def test_another_worker_takes_over_a_task_whose_log_is_lost(tmp_path: Path, enough: Path):
    async with product(tmp_path, settings=SETTINGS) as found:
        task_id = await found.start_task("emit_many", count=200, interval_ms=10, until=str(enough))
        reader = Reader(found.url, f"/tasks/{task_id}/events", hurries=True)
        async with following(reader) as followed:
            await reader.has(50)
            await found.workers[0].kill()
            lose(found, "DEL", task_id)
            enough.touch()
            await found.add_worker().start()
            await followed
        second = [event.type for event in reader.events].index("attempt", 1)
        assert reader.types[:second].count("gap") <= 1
        assert reader.events[second].data["attempt"] == 2
        assert_whole(reader.events[second:], emitted=200)


def lose(found: Product, loss: str, task_id: str) -> None:
    found.redis.command(loss, *([log_key(task_id)] if loss == "DEL" else []))


def is_told(reader: Reader) -> bool:
    return "gap" in reader.types or bool(TERMINAL & set(reader.types)) or 404 in reader.statuses
