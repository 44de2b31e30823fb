"""Cluster: a node dies and slots move under running tasks and their readers, who are told nothing but the events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from server.streams.topology.slots import slot_of
from tests.e2e.failover import EVENTS, INTERVAL_MS, TASKS, crowd
from tests.e2e.product import events_written_back, log_key, product
from tests.support.cluster import clustered

SETTINGS = {"REPRISE_LEASE_SECONDS": "8", "REPRISE_CONCURRENCY": str(TASKS)}

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("way", ["killed", "frozen"])
async def test_a_node_that_is_gone_costs_readers_a_pause_and_no_event(tmp_path: Path, way: str):
    async with clustered() as cluster:
        settings = {"REPRISE_REDIS_URL": cluster.url, **SETTINGS}
        async with (
            product(tmp_path, servers=2, workers=2, settings=settings) as found,
            crowd(found, tasks=TASKS, events=EVENTS, interval_ms=INTERVAL_MS) as people,
        ):
            await people.saw(60)
            key = log_key(next(iter(people.readers)))
            before = cluster.owner(key)
            before.kill() if way == "killed" else before.pause()
            struck_at = monotonic()
            await cluster.replaced(before, key)
            switch = monotonic() - struck_at
            await people.saw(2)
            took = monotonic() - struck_at
            if way == "frozen":
                before.resume()
            await people.ended()
            await people.check(found)
            for server in found.servers:
                await server.ready()
            repaired = events_written_back(found.workers)
    told = f"a replica after {switch:.1f} s, every reader goes on after {took:.1f} s, {repaired} events written back"
    print(f"\n{TASKS} tasks, node {way}: {told}")  # noqa: T201 - what it is run by hand for


async def test_slots_that_move_under_load_lose_and_repeat_nothing(tmp_path: Path):
    async with clustered() as cluster:
        settings = {"REPRISE_REDIS_URL": cluster.url, **SETTINGS}
        async with (
            product(tmp_path, servers=2, workers=2, settings=settings) as found,
            crowd(found, tasks=TASKS, events=EVENTS, interval_ms=INTERVAL_MS) as people,
        ):
            await people.saw(20)
            moves = [log_key(task_id) for task_id in people.readers]
            for key in [*moves, "{queue.default}", "{tasks}", "{system}", "reprise:index:unfinished"]:
                source = cluster.owner(key)
                target = next(node for node in cluster.masters if node is not source)
                await asyncio.to_thread(cluster.move_slot, slot_of(key), source, target)
            await people.saw(20)
            await people.ended()
            await people.check(found)
