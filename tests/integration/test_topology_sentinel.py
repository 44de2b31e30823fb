"""A master under Sentinel: connections find it, leave one that was replaced, and say so when there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient, SyncClient, connect, connect_sync, execute, execute_many_sync
from server.streams.errors import LogUnavailable
from server.streams.topology.belief import Named, questions, read_master
from server.streams.topology.node import node_client, options_for
from tests.support.ears import listening, rings, until_it_rings
from tests.support.sentinels import NAME, Sentinels, sentinels
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
async def setup() -> AsyncIterator[Sentinels]:
    with sentinels() as found:
        await found.settled()
        yield found


@pytest.fixture
async def client(setup: Sentinels) -> AsyncIterator[AsyncClient]:
    found = connect(setup.url, name="test")
    yield found
    await found.aclose()


async def writes(client: AsyncClient, key: str) -> bool:
    with suppress(LogUnavailable):
        return bool(await execute(client, "SET", key, "1"))
    return False


@pytest.mark.parametrize("way", ["killed", "frozen", "asked to step down"])
async def test_whatever_becomes_of_the_master_commands_and_rings_go_to_its_successor(
    setup: Sentinels, client: AsyncClient, way: str
):
    threads = connect_sync(setup.url, name="threads")
    bulk = await open_bulk(client)
    async with listening(setup.url) as ear:
        ear.bells.watch("a", ear.rung.append)
        assert await writes(client, "before")
        assert thread_writes(threads, "before")
        await rings(client, "a", "before", ear)
        before = setup.master
        if way == "killed":
            before.kill()
        elif way == "frozen":
            before.pause()
        else:
            setup.sentinels[0].command("SENTINEL", "FAILOVER", NAME)
        after = await setup.switched(before)

        async def reaches_the_successor() -> bool:
            return await writes(client, "key") and bool(after.command("EXISTS", "key"))

        await wait_until(reaches_the_successor, description="a command reaches the successor", timeout=90)
        await wait_until(
            lambda: thread_writes(threads, "thread") and after.command("EXISTS", "thread"),
            description="a thread's command reaches it",
            timeout=90,
        )
        await wait_until(lambda: bulk.is_lost, description="what led to the old one is cut", timeout=90)
        await until_it_rings(client, "a", "after", ear)
        assert ear.bells.is_connected
        if way == "frozen":
            before.resume()
    await bulk.aclose()
    threads.close()


def thread_writes(threads: SyncClient, key: str) -> bool:
    with suppress(LogUnavailable):
        return execute_many_sync(threads, [("SET", key, "1")]) == [True]
    return False


async def test_the_sentinel_that_leads_a_failover_names_the_new_master_from_the_moment_it_counts_it(setup: Sentinels):
    leader, before = setup.sentinels[0], setup.master
    client = node_client(f"redis://{leader.address}", **options_for(None, name="test", socket_timeout=5))
    seen: list[Named] = []

    async def is_over() -> bool:
        about, address = await client.execute_packed(questions(NAME))
        seen.append(read_master(about, address))
        return int(about[b"port"]) != before.port

    assert not await is_over()
    leader.command("SENTINEL", "FAILOVER", NAME)
    await wait_until(is_over, description="the failover is over", timeout=40)
    counted = [each for each in seen if each.epoch > seen[0].epoch]
    assert {each.host.port for each in counted} == {setup.master.port}
    await client.aclose()


async def test_one_sentinel_that_is_dead_or_frozen_keeps_nobody_from_the_master(setup: Sentinels):
    setup.sentinels[0].kill()
    setup.sentinels[1].pause()
    client = connect(setup.url, name="test")
    assert await execute(client, "PING")
    await client.aclose()
    setup.sentinels[1].resume()


async def test_a_master_that_no_sentinel_knows_is_told_with_its_name(setup: Sentinels):
    client = connect(setup.url.replace(NAME, "nobody"), name="test")
    told = r"no sentinel of 127\.0\.0\.1:\d+,.* named the master 'nobody': .*No such"
    with pytest.raises(LogUnavailable, match=told):
        await execute(client, "PING")
    await client.aclose()


async def test_without_any_sentinel_what_is_connected_stays_so(setup: Sentinels, client: AsyncClient):
    assert await writes(client, "before")
    for sentinel in setup.sentinels:
        sentinel.kill()
    assert await writes(client, "after")
