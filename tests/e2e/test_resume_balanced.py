"""Three servers on one Redis behind HAProxy: any of them goes on where another one stopped."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.haproxy import HAPROXY, run_haproxy
from tests.e2e.product import product
from tests.e2e.reader import Reader, assert_whole, following
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed on this machine"),
    pytest.mark.timeout(400),
]
EVENTS = 5000


@pytest.mark.slow
async def test_readers_thrown_to_another_replica_every_200_ms_get_5000_events_once(tmp_path: Path, enough: Path):
    async with (
        product(tmp_path, servers=3) as found,
        run_haproxy([server.address for server in found.servers], tmp_path) as proxy,
    ):
        task_id = await found.start_task("emit_many", url=proxy.url, count=EVENTS, interval_ms=2, until=str(enough))
        path = f"/tasks/{task_id}/events"
        readers = [Reader(proxy.url, path, drop_after=0.2, hurries=True) for _ in range(3)]
        async with AsyncExitStack() as stack:
            reading = [await stack.enter_async_context(following(reader, timeout=300)) for reader in readers]
            await wait_until(
                lambda: all(len(reader.statuses) > 12 for reader in readers), description="each was thrown", timeout=120
            )
            enough.touch()
            await asyncio.gather(*reading)
        emitted = found.emitted_in_all(task_id)
    assert emitted >= EVENTS
    for reader in readers:
        assert_whole(reader.events, emitted=emitted)
        assert reader.statuses[-1] == 204
    assert served_by(proxy.log, path) == {"replica1", "replica2", "replica3"}


async def test_a_reader_that_comes_late_gets_5000_events_of_a_finished_task_from_any_replica(tmp_path: Path):
    async with product(tmp_path, servers=3) as found:
        task_id = await found.start_task("emit_many", count=EVENTS, interval_ms=0)
        await found.emitted(task_id, EVENTS + 2, timeout=120)
        readers = [Reader(server.url, f"/tasks/{task_id}/events") for server in found.servers]
        await asyncio.gather(*(reader.follow() for reader in readers))
    for reader in readers:
        assert_whole(reader.events, emitted=EVENTS)
        assert reader.statuses == [200, 204]


def served_by(log: Path, path: str) -> set[str]:
    """Replicas that answered requests for this path, by HAProxy's log."""
    return set(re.findall(rf" events/(replica\d+) \S+ (?:200|204) .*GET {re.escape(path)}", log.read_text()))
