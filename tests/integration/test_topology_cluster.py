"""A Cluster: commands, appends and rings find the node that has the slot, also while it moves or its node dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from redis.exceptions import RedisError

from server.streams import calls
from server.streams.connections import (
    AsyncClient,
    connect,
    connect_sync,
    execute,
    execute_many,
    execute_many_sync,
    execute_packed,
    probe_writes,
    run_many_sync,
)
from server.streams.errors import LogUnavailable
from server.streams.ids import ORIGIN
from server.streams.keys import Keys
from server.streams.topology.address import Host, parse_address
from server.streams.topology.cluster import ClusterClient
from server.streams.topology.cluster_sync import SyncClusterClient
from server.streams.topology.slots import slot_of
from tests.support.cluster import Cluster
from tests.support.ears import listening, until_it_rings
from tests.support.waiting import wait_until
from tests.support.working import Bench, working

pytestmark = pytest.mark.timeout(400)

#: Keys of every node.
NAMES = [f"key{number}" for number in range(30)]


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[AsyncClient]:
    found = connect(cluster.url, name="test")
    assert await execute(found, "PING")  # from then on it watches the map
    yield found
    await found.aclose()


async def test_a_script_that_every_node_has_forgotten_is_learned_by_all_of_them_in_one_trip(cluster: Cluster):
    threads, keys = connect_sync(cluster.url, name="threads"), Keys()
    sent = [calls.read(keys, name, first=ORIGIN, last=None, limit=0) for name in NAMES]
    assert {cluster.owner(keys.log(name)) for name in NAMES} == set(cluster.masters)
    for _ in range(2):
        found = await asyncio.to_thread(run_many_sync, threads, sent)
        assert [each for each in found if isinstance(each, LogUnavailable)] == []
        for node in cluster.masters:
            node.command("SCRIPT", "FLUSH")
    threads.close()


async def other_node(cluster: Cluster, key: str) -> None:
    """Move the slot of a key to another node."""
    source = cluster.owner(key)
    target = next(node for node in cluster.masters if node is not source)
    await asyncio.to_thread(cluster.move_slot, slot_of(key), source, target)


async def test_a_node_that_takes_no_writes_is_noticed_whatever_the_others_say(cluster: Cluster, client: AsyncClient):
    await probe_writes(client)
    for node in cluster.masters:
        node.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(LogUnavailable, match="OOM"):
            await probe_writes(client)
        node.command("CONFIG", "SET", "maxmemory", "0")
    await probe_writes(client)


async def test_commands_go_to_the_node_of_their_key_and_replies_come_in_their_order(
    cluster: Cluster, client: AsyncClient
):
    threads = connect_sync(cluster.url, name="threads")
    values = [name.upper().encode() for name in NAMES]
    assert await execute_many(client, [("SET", name, name.upper()) for name in NAMES]) == [True] * len(NAMES)
    for moved in ("", "key3", "key4"):
        if moved:
            await other_node(cluster, moved)
        assert await execute_many(client, [("GET", name) for name in NAMES]) == values
        assert await execute_packed(client, [("GET", name) for name in NAMES]) == values
        assert [await execute(client, "GET", name) for name in NAMES] == values
        assert execute_many_sync(threads, [("GET", name) for name in NAMES]) == values
    both = [("INCR", "{key3}:a"), ("INCR", "{key3}:b")]
    assert await execute_many(client, both, in_one_step=True) == [1, 1]
    assert await execute(client, "PING")
    threads.close()


async def test_a_key_on_its_way_is_found_where_it_is(cluster: Cluster, client: AsyncClient):
    threads = connect_sync(cluster.url, name="threads")
    assert execute_many_sync(threads, [("SET", "{a}:1", "1"), ("SET", "{a}:2", "2")]) == [True, True]
    source = cluster.owner("{a}")
    target = next(node for node in cluster.masters if node is not source)
    loop = asyncio.get_running_loop()
    seen: list[object] = []

    async def look() -> None:
        commands = [("GET", "{a}:1"), ("GET", "{a}:2")]
        seen.append([await execute(client, *command) for command in commands])
        seen.append(await execute_many(client, commands))
        seen.append(await execute_packed(client, commands))
        seen.append(await asyncio.to_thread(execute_many_sync, threads, commands))

    def between() -> None:
        asyncio.run_coroutine_threadsafe(look(), loop).result(60)

    await asyncio.to_thread(cluster.move_slot, slot_of("{a}"), source, target, between=between)
    assert seen == [[b"1", b"2"]] * 8
    threads.close()


async def test_a_channel_is_heard_wherever_its_slot_goes(cluster: Cluster, client: AsyncClient):
    async with listening(cluster.url) as ear:
        heard: dict[str, list[bytes]] = {name: [] for name in NAMES}
        await asyncio.gather(*(ear.bells.watch(name, heard[name].append) for name in NAMES))

        async def all_hear(payload: str) -> None:
            async def hear() -> bool:
                for name in NAMES:
                    if payload.encode() not in heard[name]:
                        await execute(client, "SPUBLISH", name, payload)
                return all(payload.encode() in each for each in heard.values())

            await wait_until(hear, description=f"all channels hear {payload!r}", timeout=60)

        await all_hear("before")
        for moved in ("key3", "key4", "key5"):
            await other_node(cluster, moved)
            await wait_until(lambda moved=moved: b"" in heard[moved], description=f"{moved} is told to look")
            await all_hear(f"after {moved}")
        assert ear.bells.is_connected
        assert [name for name in NAMES if b"" in heard[name]] == ["key3", "key4", "key5"]


@pytest.mark.parametrize("way", ["killed", "frozen"])
async def test_whatever_becomes_of_a_node_commands_and_rings_go_to_its_successor(
    cluster: Cluster, client: AsyncClient, way: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="server.streams.doorbell")
    threads = connect_sync(cluster.url, name="threads")
    async with listening(cluster.url) as ear:
        await ear.bells.watch("key3", ear.rung.append)
        assert execute_many_sync(threads, [("SET", name, "1") for name in NAMES]) == [True] * len(NAMES)
        before = cluster.owner("key3")
        if way == "killed":
            before.kill()
            await wait_until(lambda: not ear.bells.is_connected, description="the doorbell says so")
        else:
            before.pause()
        await cluster.replaced(before, "key3")

        async def all_is_well() -> bool:
            with suppress(LogUnavailable):
                await execute_many(client, [("SET", name, "2") for name in NAMES])
                return execute_many_sync(threads, [("SET", name, "2") for name in NAMES]) == [True] * len(NAMES)
            return False

        await wait_until(all_is_well, description="commands of all slots are answered", timeout=90)
        await until_it_rings(client, "key3", "after", ear)
        await wait_until(lambda: ear.bells.is_connected, description="the doorbell is whole again", timeout=90)
        if way == "killed":
            over = f"Other nodes of the Cluster tell of new events now, in the place of {before.address}"
            await wait_until(lambda: caplog.messages.count(over) == 1, description="the log says that it is over")
        if way == "frozen":
            before.resume()
    threads.close()


async def test_nodes_that_have_lost_their_slots_are_forgotten(cluster: Cluster):
    address = parse_address(f"redis+cluster://{cluster.nodes[0].address}")  # none of those that change places
    client = ClusterClient(address, name="test", socket_timeout=5)
    threads = SyncClusterClient(address, name="test", socket_timeout=5)
    commands = [("SET", name, "1") for name in NAMES]
    await client.execute_packed(commands)
    assert threads.execute_each(commands) == [True] * len(NAMES)
    before, after = cluster.nodes[1], cluster.nodes[4]
    key = next(name for name in NAMES if cluster.owner(name) is before)
    after.command("CLUSTER", "FAILOVER")
    assert await cluster.replaced(before, key) is after

    async def is_forgotten() -> bool:
        with suppress(RedisError, OSError):
            await client.look()
            threads._is_look_due = True  # as if a connection had broken
            assert threads.execute_each(commands) == [True] * len(NAMES)
        return " name=test " not in str(before.command("CLIENT", "LIST")).replace("'name': 'test'", " name=test ")

    await wait_until(is_forgotten, description="nothing leads to it any more", timeout=20)
    assert Host("127.0.0.1", before.port) not in {*client._nodes, *threads._nodes}
    await client.aclose()
    threads.close()


async def test_tasks_of_several_queues_are_run_as_soon_as_they_come(cluster: Cluster, client: AsyncClient):
    bench = Bench(client, Keys())
    async with working(cluster.url, queues=("one", "two", "three", "four")):
        for queue in ("four", "one", "three", "two"):
            task_id = await bench.create("emit_many", count=5, queue=queue)
            assert (await bench.end(task_id)).status.value == "completed"
            assert await bench.datas(task_id, "number") == [{"number": number} for number in range(5)]
            await bench_is_empty(bench, queue)


async def bench_is_empty(bench: Bench, queue: str) -> None:
    stream = bench.keys.ready(queue, "emit_many")

    async def empty() -> bool:
        return await execute(bench.client, "XLEN", stream) == 0

    await wait_until(empty, description="the entry is acked and deleted")
