"""Sentinel: the master dies under running tasks and their readers, who are told nothing but the events."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.failover import EVENTS, INTERVAL_MS, TASKS, crowd
from tests.e2e.product import events_written_back, product
from tests.support.sentinels import sentinels

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("way", ["killed", "frozen"])
async def test_a_master_that_is_gone_costs_readers_a_pause_and_no_event(tmp_path: Path, way: str):
    with sentinels() as setup:
        await setup.settled()
        settings = {"REPRISE_REDIS_URL": setup.url, "REPRISE_LEASE_SECONDS": "6", "REPRISE_CONCURRENCY": str(TASKS)}
        async with (
            product(tmp_path, servers=2, workers=2, settings=settings) as found,
            crowd(found, tasks=TASKS, events=EVENTS, interval_ms=INTERVAL_MS) as people,
        ):
            await people.saw(60)
            before = setup.master
            before.kill() if way == "killed" else before.pause()
            struck_at = monotonic()
            await setup.switched(before)
            switch = monotonic() - struck_at
            await people.saw(2)
            took = monotonic() - struck_at
            if way == "frozen":
                before.resume()  # it comes back and believes that it is the master
            await people.ended()
            await people.check(found)
            for server in found.servers:
                await server.ready()
            repaired = events_written_back(found.workers)
    told = f"another after {switch:.1f} s, every reader goes on after {took:.1f} s, {repaired} events written back"
    print(f"\n{TASKS} tasks, master {way}: {told}")  # noqa: T201 - what it is run by hand for
