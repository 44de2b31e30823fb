"""REPRISE_DURABILITY in a Cluster: each write is waited for at the node that has it, wherever its slot went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from server.streams.announcements import Announcer
from server.streams.connections import AsyncClient, connect
from server.streams.durability import Durability
from server.streams.errors import LogUnavailable, NotDurable
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.lanes import open_lane
from server.streams.log import Log
from server.streams.new_task import NewTask
from server.streams.safety import Safety
from server.streams.shared_writer import SharedWriter
from server.streams.suitability import examine
from server.streams.tasks import TaskStore
from server.streams.topology.slots import slot_of
from tests.support.cluster import Cluster
from tests.support.log_hand import LIFETIMES, Hand
from tests.support.redis_node import RedisNode
from tests.support.replicated import in_vain
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[AsyncClient]:
    found = connect(cluster.url, name="test")
    yield found
    await found.aclose()


def replica_of(cluster: Cluster, master: RedisNode) -> RedisNode:
    """The one that follows it since the Cluster was formed."""
    return cluster.nodes[cluster.nodes.index(master) + 3]


def streams_of_each_node(cluster: Cluster, keys: Keys) -> dict[RedisNode, str]:
    return {cluster.owner(keys.log(name)): name for name in (f"chat{number}" for number in range(40))}


async def test_a_publish_waits_for_a_replica_of_the_node_that_has_the_stream_and_for_no_other(
    cluster: Cluster, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    streams = streams_of_each_node(cluster, keys)
    assert len(streams) == 3
    for master, stream in streams.items():
        replica = replica_of(cluster, master)
        replica.pause()
        with in_vain(), pytest.raises(NotDurable):
            await log.publish(stream, [Draft("t", "1")], token="a")
        for other in streams.values():
            if other != stream:
                await log.publish(other, [Draft("t", "2")])
        replica.resume()
        await log.publish(stream, [Draft("t", "1")], token="a")
        assert [event.data for event in await Hand(client, keys).log(stream)].count("1") == 1


async def test_a_publish_that_is_sent_on_to_another_node_is_waited_for_there(
    cluster: Cluster, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0, durability=Durability.REPLICATED)
    await log.publish("chat", [Draft("t", "1")])
    before = cluster.owner(keys.log("chat"))
    target = next(node for node in cluster.masters if node is not before)
    await asyncio.to_thread(cluster.move_slot, slot_of(keys.log("chat")), before, target)
    replica_of(cluster, target).pause()
    with in_vain(), pytest.raises(NotDurable):
        await log.publish("chat", [Draft("t", "2")], token="a")
    replica_of(cluster, target).resume()
    replica_of(cluster, before).pause()
    await log.publish("chat", [Draft("t", "2")], token="a")
    replica_of(cluster, before).resume()
    assert [event.data for event in await Hand(client, keys).log("chat")] == ["1", "2"]


async def test_a_writer_waits_for_a_replica_of_its_streams_node_and_what_it_flushed_outlives_that_node(
    cluster: Cluster, client: AsyncClient, keys: Keys
) -> None:
    lane = open_lane(client, durability=Durability.REPLICATED)
    streams = streams_of_each_node(cluster, keys)
    (master, slow), (_, quick), *_ = streams.items()
    writers = {
        name: SharedWriter(lane, keys, name, lifetimes=LIFETIMES, max_events=0, patience_seconds=60)
        for name in (slow, quick)
    }
    replica_of(cluster, master).pause()
    for writer in writers.values():
        await writer.emit(Draft("t", "1"))
    waiting = asyncio.ensure_future(writers[slow].flush())
    await asyncio.wait_for(writers[quick].flush(), 10)
    await wait_until(lambda: "No replica has confirmed" in lane.trouble, description="one node's lane waits")
    assert not waiting.done()
    replica_of(cluster, master).resume()
    await asyncio.wait_for(waiting, 10)
    master.kill()
    await cluster.replaced(master, keys.log(slow))

    async def is_there() -> bool:
        with suppress(LogUnavailable):
            return [event.data for event in await Hand(client, keys).log(slow)] == ["1"]
        return False

    await wait_until(is_there, description="the successor has the event", timeout=20)
    for writer in writers.values():
        writer.close()
    await lane.aclose()


async def test_a_task_is_not_told_as_created_before_what_makes_it_findable_is_safe_too(
    cluster: Cluster, client: AsyncClient, keys: Keys
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0)
    store = TaskStore(
        client,
        keys,
        Announcer(log),
        lifetimes=LIFETIMES,
        may_judge_expired=lambda: True,
        durability=Durability.REPLICATED,
    )
    record = await store.create(NewTask("t", {}))
    replica = replica_of(cluster, cluster.owner(keys.unfinished_index))
    replica.pause()
    for _ in range(2):
        with in_vain(), pytest.raises(NotDurable):
            await store.create(NewTask("t", {}), idempotency_key="i")
    replica.resume()
    assert (await store.create(NewTask("t", {}), idempotency_key="i")).id != record.id


async def test_a_node_without_a_replica_is_refused_by_its_name(cluster: Cluster, client: AsyncClient) -> None:
    assert (await examine(client, Durability.REPLICATED)).refusals == ()
    alone = cluster.masters[1]
    replica_of(cluster, alone).kill()

    async def refusals() -> tuple[str, ...]:
        return (await examine(client, Durability.REPLICATED)).refusals

    (sentence,) = await wait_until(refusals, description="it is noticed", timeout=20)
    assert sentence.startswith(f"{alone.address}: REPRISE_DURABILITY is 'replicated', and no replica is connected")


async def test_a_node_that_loses_its_replica_is_named_once_and_it_is_over_when_each_node_has_one_that_keeps_up(
    cluster: Cluster, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="server.streams.safety")
    safety = Safety(client, Durability.REPLICATED)
    await safety.look(now=0)
    assert caplog.messages == []
    master = cluster.masters[0]
    replica = replica_of(cluster, master)
    replica.kill()

    async def is_said(count: int) -> bool:
        await safety.look(now=5)
        return len(caplog.messages) >= count

    await wait_until(lambda: is_said(1), description="the loss is said")
    await safety.look(now=6)
    (beginning,) = caplog.messages
    assert f"{master.address}: REPRISE_DURABILITY is 'replicated', and no replica is connected" in beginning
    replica.start()
    await wait_until(lambda: is_said(2), description="the end is said")
    assert caplog.messages[1:] == ["What is written is as durable again as it has to be; for 0.0 s it was not"]
