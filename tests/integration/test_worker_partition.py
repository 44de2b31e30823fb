"""A worker that is parted from Redis while Redis and all others are not."""

from __future__ import annotations

import pytest

from server.streams.records import Status
from tests.support.event_reader import data_of, reading
from tests.support.partition import linked
from tests.support.web import serving
from tests.support.working import LEASE_SECONDS, Bench, WorkerProcess, working

EVENTS = 300


@pytest.mark.parametrize("task_type", ["emit_many", "emit_many_in_thread"])
async def test_its_task_goes_on_elsewhere_its_late_writes_are_refused_and_readers_see_one_whole_chain(
    redis_url: str, bench: Bench, task_type: str
) -> None:
    async with linked(redis_url) as link, serving(redis_url, lease_seconds=LEASE_SECONDS) as web:
        await web.until_ready()
        with WorkerProcess(link.url) as parted:
            await parted.says("is ready")
            task_id = await bench.create(task_type, count=EVENTS, interval_ms=10)
            async with reading(web.client, f"/tasks/{task_id}/events") as reader:
                seen = await reader.take(20)
                link.part()  # what it has sent and goes on to send arrives when this heals
                async with working(redis_url) as _other:
                    seen += await reader.until("attempt")
                    seen += await reader.take(20)
                    link.heal()
                    await parted.says(f"Stopped task {task_id}")
                    seen += await reader.rest()
                    record = await bench.end(task_id)
                    await bench.queue_is_empty()
            assert parted.process.poll() is None
    assert (record.status, record.attempt) == (Status.COMPLETED, 2)
    attempts = [data_of(event) for event in seen if event.event == "attempt"]
    assert [(each["attempt"], each["reason"]) for each in attempts] == [(1, "started"), (2, "worker_lost")]
    assert {event.event for event in seen} <= {"position", "attempt", "number", "stalled", "complete"}
    kinds = [event.event for event in seen]
    again = len(kinds) - 1 - kinds[::-1].index("attempt")
    first, second = (
        [data_of(each)["number"] for each in some if each.event == "number"] for some in (seen[:again], seen[again:])
    )
    assert first == list(range(len(first)))
    assert second == list(range(EVENTS))
    # Nothing of the first attempt came behind the second's beginning.
    ids = [event.id for event in await bench.events(task_id)]
    assert ids == sorted(ids)
    assert len({found.generation for found in ids}) == 2
