"""A replica is promoted that lacks the end of what its master had acknowledged: what was written back, and who is
told.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.streams.connections import connect
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.asgi_client import AppClient
from tests.support.event_reader import data_of, reading
from tests.support.replicated import Replicated
from tests.support.web import serving
from tests.support.working import LEASE_SECONDS, Bench, WorkerProcess, working
from workers import open_stream

LOST = 50
EVENTS = 100
INTERVAL_MS = 5


@asynccontextmanager
async def bench_of(url: str, keys: Keys) -> AsyncGenerator[Bench]:
    client = connect(url, name="test")
    yield Bench(client, keys)
    await client.aclose()


def lasting(enough: Path) -> dict[str, Any]:
    """Input of a task that emits until it is told."""
    return {"count": EVENTS, "interval_ms": INTERVAL_MS, "until": str(enough)}


async def emitted(bench: Bench, task_id: str) -> int:
    """How many events it emitted, by its own count."""
    return (await bench.store.get(task_id)).as_json()["result"]["count"]


async def length(bench: Bench, task_id: str) -> int:
    return len(await bench.events(task_id))


async def test_running_tasks_write_the_lost_end_back_and_readers_elsewhere_see_no_hole(
    pair: Replicated, keys: Keys, enough: Path
) -> None:
    async with (
        bench_of(pair.url, keys) as bench,
        bench_of(pair.replica.url, keys) as other,
        working(pair.url) as _worker,
        serving(pair.url, lease_seconds=LEASE_SECONDS) as web,
    ):
        await web.until_ready()
        types = ["emit_many", "emit_many_in_thread", "emit_many"]
        task_ids = [await bench.create(each, **lasting(enough)) for each in types]
        quiet = await bench.create("wait", seconds=4)
        for task_id in task_ids:
            await bench.has_emitted(task_id, "number", count=20)
        await bench.has_emitted(quiet, "waiting")
        reading_all = [asyncio.create_task(_numbers(web.client, task_id)) for task_id in task_ids]
        pair.leave_behind()
        left_at = {task_id: await length(other, task_id) for task_id in task_ids}
        for task_id in task_ids:
            await bench.has_emitted(task_id, "number", count=left_at[task_id] + LOST)
        lost = sum([await length(bench, task_id) - left_at[task_id] for task_id in task_ids])
        pair.fail_over()
        await bench.reconnected()
        enough.touch()
        for task_id in [*task_ids, quiet]:
            record = await bench.end(task_id)
            assert (record.status, record.attempt) == (Status.COMPLETED, 1)
        counts = [await emitted(bench, task_id) for task_id in task_ids]
        for task_id, count in zip(task_ids, counts, strict=True):
            events = await bench.events(task_id)
            assert [event.id.sequence for event in events] == list(range(count + 2))
            assert [each["number"] for each in await bench.datas(task_id, "number")] == list(range(count))
        assert await asyncio.wait_for(asyncio.gather(*reading_all), 60) == [list(range(count)) for count in counts]
    assert lost >= LOST * len(task_ids)


async def _numbers(client: AppClient, task_id: str) -> list[int]:
    """What one reader gets, who must be told of no gap: everything was written back."""
    async with reading(client, f"/tasks/{task_id}/events") as reader:
        events = await reader.rest()
    assert {event.event for event in events} == {"attempt", "number", "complete"}
    return [data_of(event)["number"] for event in events if event.event == "number"]


async def test_an_end_that_was_lost_is_written_back_before_its_entry_is_acked(
    pair: Replicated, keys: Keys, enough: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.attempt._AFTERGLOW_SECONDS", 8)  # the failover comes before it is over
    async with bench_of(pair.url, keys) as bench, bench_of(pair.replica.url, keys) as other, working(pair.url):
        task_id = await bench.create("emit_many", **lasting(enough))
        await bench.has_emitted(task_id, "number", count=5)
        pair.leave_behind()
        enough.touch()
        assert (await bench.end(task_id)).status is Status.COMPLETED
        left = await other.store.get(task_id)
        assert left.status is Status.RUNNING
        pair.fail_over()
        await bench.reconnected()
        record = await bench.end(task_id)
        assert (record.status, record.attempt) == (Status.COMPLETED, 1)
        assert [each["number"] for each in await bench.datas(task_id, "number")] == list(
            range(await emitted(bench, task_id))
        )
        await bench.queue_is_empty()


async def test_a_worker_that_dies_with_the_lost_end_leaves_a_new_attempt_to_readers_and_no_silent_hole(
    pair: Replicated, keys: Keys, enough: Path
) -> None:
    async with bench_of(pair.url, keys) as bench, serving(pair.url, lease_seconds=LEASE_SECONDS) as web:
        await web.until_ready()
        with WorkerProcess(pair.url) as first:
            await first.says("is ready")
            task_id = await bench.create("emit_many", **lasting(enough))
            await bench.has_emitted(task_id, "number", count=20)
            async with reading(web.client, f"/tasks/{task_id}/events") as reader:
                pair.leave_behind()
                seen = await reader.take(20 + LOST)
                first.send(signal.SIGKILL)
                await first.ends()
                enough.touch()
                pair.fail_over()
                await bench.reconnected()
                async with working(pair.url) as _second:
                    seen += await reader.rest()
        record = await bench.end(task_id)
        assert (record.status, record.attempt) == (Status.COMPLETED, 2)
        count = await emitted(bench, task_id)
    kinds = [event.event for event in seen]
    again = len(kinds) - 1 - kinds[::-1].index("attempt")
    assert data_of(seen[again])["attempt"] == 2
    # What stands is the second attempt, whole; what came before it was one run without holes, or was told as a gap.
    assert [data_of(event)["number"] for event in seen[again:] if event.event == "number"] == list(range(count))
    before = [data_of(event)["number"] for event in seen[:again] if event.event == "number"]
    assert before == list(range(len(before)))


async def test_readers_of_a_stream_whose_lost_events_nobody_can_write_back_are_told_a_gap(
    pair: Replicated, keys: Keys
) -> None:
    async with (
        serving(pair.url) as web,
        bench_of(pair.url, keys) as bench,
        open_stream(pair.url, "chat.42") as stream,
    ):
        await web.until_ready()
        async with reading(web.client, "/streams/chat.42/events") as reader:
            await stream.emit("n", 0)
            await stream.flush()
            pair.leave_behind()
            for number in range(1, 10):
                await stream.emit("n", number)
            await stream.flush()
            events = [await reader.next() for _ in range(11)]
            pair.fail_over()
            await bench.reconnected()
            for number in range(10, 20):
                await stream.emit("n", number)
            await stream.complete()
            events += await reader.rest()
    found = [event.data if event.event == "n" else event.event for event in events if event.event != "position"]
    assert found == [*map(str, range(10)), "gap", *map(str, range(10, 20)), "complete"]
