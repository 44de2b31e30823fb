"""Sentinel and Cluster of chaos runs: they come up behind their links, and what a failover lost is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from time import monotonic

import pytest

from tests.chaos.announced import Announced
from tests.chaos.chronicle import Chronicle
from tests.chaos.cluster import Clustered
from tests.chaos.keys import SLOTS, log_key, slot_of
from tests.chaos.sentinel import WithSentinels
from tests.support.waiting import wait_until

KEY = log_key("a")

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def watched(topology: WithSentinels | Clustered) -> AsyncGenerator[Chronicle]:
    """Running, and looked at."""
    chronicle = Chronicle()
    try:
        await topology.start()
        watching = asyncio.create_task(topology.watch(chronicle, monotonic), name="failovers")
        yield chronicle
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        await topology.close()


def ports(topology: Announced) -> set[int]:
    return {link.port for link in topology.links.values()}


async def test_a_failover_of_sentinel_loses_what_no_replica_had_until_the_old_master_is_one(tmp_path: Path):
    topology = WithSentinels(["server1"], tmp_path)
    async with watched(topology) as chronicle:
        [master] = await topology.in_role("master")
        replicas = await topology.in_role("replica")
        assert [len(await topology.in_role("sentinel")), len(replicas)] == [3, 2]
        host, port, _ = (await master.command("ROLE"))[2][0]
        assert host == "127.0.0.1"
        assert int(port) in ports(topology)
        await asyncio.gather(*(wait_until_followed(topology, replica.name) for replica in replicas))
        topology.links[f"link:{master.name}"].sever()  # replicas do not notice
        written_at = monotonic()
        await master.command("SET", KEY, "1")
        await master.kill()
        await wait_until(lambda: chronicle.failovers, description="a failover is noticed", timeout=40)
        [lost] = chronicle.failovers
        assert lost.lost("a", written_at)
        assert lost.lost_since is not None
        assert 0.0 < lost.lost_since <= written_at
        assert lost.lost_until == inf
        await master.start()
        await topology.settled()
        await wait_until(lambda: lost.lost_until != inf, description="the old master is seen to be a replica")
        assert await topology.command(KEY, "EXISTS", KEY) == 0


async def test_a_failover_in_a_cluster_loses_nothing_of_other_masters_slots_and_slots_can_be_moved(tmp_path: Path):
    topology = Clustered(["server1"], tmp_path)
    async with watched(topology) as chronicle:
        await topology.command(KEY, "SET", KEY, "1")
        before = await topology.in_role("master")
        owner = [node for node in before if slot_of(KEY) in (await topology.slots_of(node) or ())]
        assert await topology.move_slot(KEY, 0.7)
        after = [node for node in before if slot_of(KEY) in (await topology.slots_of(node) or ())]
        assert (len(owner), len(after), owner != after) == (1, 1, True)
        assert await topology.command(KEY, "GET", KEY) == "1"
        await owner[0].kill()
        await wait_until(lambda: chronicle.failovers, description="a failover is noticed", timeout=40)
        [lost] = chronicle.failovers
        assert lost.slots is not None
        assert slot_of(KEY) not in lost.slots
        assert len(lost.slots) in range(SLOTS // 3 - 2, SLOTS // 3 + 2)
        assert not lost.lost("a", 0.0)
        await owner[0].start()
        await topology.settled()
        assert len(await topology.in_role("replica")) == 3


async def wait_until_followed(topology: Announced, name: str) -> None:
    async def is_followed() -> bool:
        return await topology.follows(topology.nodes[name])

    await wait_until(is_followed, description=f"{name} has all data")
