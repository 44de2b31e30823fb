"""Sentinels and nodes of a Cluster that are behind, silent or talk nonsense, and who is led where by them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Final

import pytest
from redis.exceptions import RedisError

from server.streams.connections import connect, connect_sync, execute, execute_many_sync
from server.streams.errors import LogUnavailable
from server.streams.topology.address import Host, parse_address
from server.streams.topology.cluster import ClusterClient
from server.streams.topology.cluster_sync import SyncClusterClient
from server.streams.topology.sentinel import Sentinels
from server.streams.topology.sentinel_sync import SyncSentinels
from server.streams.topology.slots import SLOTS
from tests.support.divided import Divided, divided
from tests.support.redis_node import RedisNode
from tests.support.waiting import wait_until
from tests.support.web import serving

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def masters() -> AsyncIterator[Divided]:
    with divided() as found:
        await found.divide()
        yield found


async def behind_only(masters: Divided, write: Callable[[str], object]) -> None:
    """Write to the new master; then the only sentinel that knows of it falls silent, and connections to it are lost."""
    knows, behind, other = masters.sentinels
    masters.tell(knows)
    other.pause()
    await until_written(write, masters.new, "before")
    other.resume()
    knows.pause()
    masters.new.command("CLIENT", "KILL", "TYPE", "normal")
    await until_written(write, masters.new, "after")
    assert not masters.old.command("EXISTS", "before", "after")
    assert behind.command("PING")
    knows.resume()


async def until_written(write: Callable[[str], object], node: RedisNode, key: str) -> None:
    async def is_written() -> bool:
        with suppress(LogUnavailable):
            await asyncio.to_thread(write, key)
        return bool(node.command("EXISTS", key))

    await wait_until(is_written, description=f"{key!r} reaches {node.address}", timeout=20)


async def test_sentinels_that_are_behind_lead_no_client_back_to_the_old_master(masters: Divided):
    client, loop = connect(masters.url, name="test"), asyncio.get_running_loop()

    def write(key: str) -> object:
        return asyncio.run_coroutine_threadsafe(execute(client, "SET", key, "1"), loop).result(20)

    await behind_only(masters, write)
    await client.aclose()


async def test_sentinels_that_are_behind_lead_no_thread_back_to_the_old_master(masters: Divided):
    client = connect_sync(masters.url, name="test")
    await behind_only(masters, lambda key: execute_many_sync(client, [("SET", key, "1")]))
    client.close()


async def test_a_server_says_once_that_the_master_is_another_one(
    masters: Divided, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(masters.url) as web:
        await web.until_ready()
        for sentinel in masters.sentinels:
            masters.tell(sentinel)

        def connected() -> set[bool]:
            """Which of its two clients, that of doorbells or the other, have come to the new master."""
            names = re.findall(r"name=(reprise-server-[^ ]*)", str(masters.new.command("CLIENT", "LIST")))
            return {name.endswith("-doorbells") for name in names}

        await wait_until(lambda: len(connected()) == 2, description="both are at the new master", timeout=20)
        await web.until_ready()
    said = [message for message in caplog.messages if message.startswith("The master is ")]
    assert said == [f"The master is {masters.new.address} now; it was {masters.old.address}"]


async def test_a_sentinel_that_was_silent_is_asked_last_by_a_thread(masters: Divided):
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # dialled by the kernel, and nobody answers
        frozen.setblocking(False)
        hosts = f"127.0.0.1:{frozen.getsockname()[1]},{masters.url.removeprefix('redis+sentinel://')}"
        looks = SyncSentinels(parse_address(f"redis+sentinel://{hosts}"), name="test")
        for _ in range(3):
            assert (await asyncio.to_thread(looks.master)).port == masters.old.port
        looks.close()
        frozen.accept()[0].close()
        with pytest.raises(BlockingIOError):
            frozen.accept()


# A Cluster of which each node knows another map: each claims all slots, and the first has seen the last election.


@pytest.fixture
def nodes() -> Iterator[list[RedisNode]]:
    with ExitStack() as stack:
        found = [RedisNode("cluster-enabled yes", "cluster-config-file nodes.conf", bus=True) for _ in range(3)]
        for node, epoch in zip(found, (2, 1, 1), strict=True):
            stack.callback(node.close)
            node.start()
            node.command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            node.command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        yield found


async def all_are_well(nodes: list[RedisNode]) -> None:
    for node in nodes:
        await wait_until(lambda node=node: "ok" in str(node.command("CLUSTER", "INFO"))[:40], description="it is well")


def url_of(nodes: list[RedisNode]) -> str:
    return f"redis+cluster://{','.join(node.address for node in nodes)}"


async def test_nodes_that_are_behind_lead_no_client_back_while_the_one_that_knows_is_silent(nodes: list[RedisNode]):
    await all_are_well(nodes)
    newest, _, other = nodes
    client = ClusterClient(parse_address(url_of(nodes)), name="test", socket_timeout=1)
    other.pause()
    await client.look()
    assert client.slots.masters == {Host("127.0.0.1", newest.port)}
    other.resume()
    newest.pause()
    for _ in range(3):
        await client.look()
        assert client.slots.masters == {Host("127.0.0.1", newest.port)}
    newest.resume()
    await client.aclose()


async def test_nodes_that_are_behind_lead_no_thread_back_while_the_one_that_knows_is_silent(nodes: list[RedisNode]):
    await all_are_well(nodes)
    newest, *others = nodes
    client = SyncClusterClient(parse_address(url_of(nodes)), name="test", socket_timeout=1)
    others[1].pause()
    assert await asyncio.to_thread(client.execute_command, "SET", "key", "1")
    assert newest.command("GET", "key") == "1"
    others[1].resume()
    newest.pause()

    def write() -> None:
        with pytest.raises(RedisError):
            client.execute_command("SET", "key", "2")

    for _ in range(3):  # the first finds it silent, those after it ask the others
        await asyncio.to_thread(write)
    newest.resume()
    client.close()
    assert [node.command("DBSIZE") for node in others] == [0, 0]


# Peers that talk nonsense.

_GREETED: Final = {b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"SENTINEL": b"?nonsense\r\n", b"CLUSTER": b"?nonsense\r\n"}


@asynccontextmanager
async def nonsense() -> AsyncGenerator[str]:
    """The address of a peer that greets as Redis does, and answers what it is asked with what is no reply."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readline():
                words: list[bytes] = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                writer.write(_GREETED.get(words[0].upper(), b"+OK\r\n"))
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("form", ["redis+sentinel://{}/any/0", "redis+cluster://{}"])
async def test_what_is_no_reply_is_told_as_an_error_of_redis(form: str):
    async with nonsense() as address:
        client = connect(form.format(address), name="test")
        with pytest.raises(LogUnavailable, match="cannot be read"):
            await execute(client, "GET", "key")
        await client.aclose()


@pytest.mark.parametrize("form", ["redis+sentinel://{}/any/0", "redis+cluster://{}"])
async def test_a_client_that_was_closed_asks_nobody_any_more(form: str):
    before = asyncio.all_tasks()
    async with nonsense() as nobody:
        address = parse_address(form.format(nobody))
        if "sentinel" in form:
            sentinels = Sentinels(address, name="test")
            await sentinels.aclose()
            with pytest.raises(RedisError, match="closed"):
                await sentinels.master()
        else:
            client = ClusterClient(address, name="test", socket_timeout=1)
            await client.aclose()
            client.look_soon()
            with pytest.raises(RedisError, match="closed"):
                await client.look()
        assert asyncio.all_tasks() == before
