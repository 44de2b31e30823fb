"""Who Reprise is to Redis: users with few rights, passwords from files that are rotated, TLS with an own authority."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient, SyncClient, connect, connect_sync, execute, execute_many_sync
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.topology.slots import slot_of
from tests.support.certificates import Certificates, make_certificates, needs_tls
from tests.support.cluster import Cluster, clustered
from tests.support.ears import listening, rings
from tests.support.event_reader import data_of, reading
from tests.support.redis_node import RedisNode
from tests.support.redis_server import RedisServer
from tests.support.replicated import Replicated
from tests.support.sentinels import NAME, Sentinels, sentinels
from tests.support.waiting import wait_until
from tests.support.web import Web, serving
from tests.support.working import LEASE_SECONDS, Bench, working
from workers import open_stream

#: All that Reprise needs, as docs/deployment.md says.
RIGHTS = (
    "~reprise:*",
    "&reprise:*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
    "+config|get",
    "+role",
    "+client|unblock",
)
#: Those of the sentinels, and of the replicas, at the data nodes.
WATCHING = (
    "&*",
    "+multi",
    "+exec",
    "+ping",
    "+role",
    "+info",
    "+subscribe",
    "+publish",
    "+slaveof",
    "+config|rewrite",
    "+client|setname",
    "+client|kill",
    "+script|kill",
)
FOLLOWING = ("+psync", "+replconf", "+ping")


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def password(tmp_path: Path) -> Path:
    found = tmp_path / "password"
    found.write_text("first\n")
    return found


@pytest.fixture
async def client(own_redis: RedisServer, password: Path) -> AsyncIterator[AsyncClient]:
    own_redis.command("ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all")
    found = connect(url_for(own_redis, password), name="test")
    yield found
    await found.aclose()


def url_for(server: RedisServer, password: Path) -> str:
    return f"{server.url}?username=app&password_file={password}"


async def test_a_password_that_is_rotated_in_its_file_is_used_by_whatever_connects_afterwards(
    own_redis: RedisServer, password: Path, client: AsyncClient
):
    threads = connect_sync(url_for(own_redis, password), name="threads")
    async with listening(url_for(own_redis, password)) as ear:
        ear.bells.watch("a", ear.rung.append)
        await rings(client, "a", "before", ear)
        assert execute_many_sync(threads, [("PING",)]) == [True]
        own_redis.command("ACL", "SETUSER", "app", ">second", "<first")
        assert await execute(client, "ACL", "WHOAMI") == b"app"  # who is connected stays so
        password.write_text("second\n")
        own_redis.command("CLIENT", "KILL", "USER", "app")
        await ear.until_told("connected", "disconnected", "connected")
        await wait_until(lambda: answers(client), description="commands go on")
        assert await execute(client, "ACL", "WHOAMI") == b"app"
        await rings(client, "a", "after", ear)
        bulk = await open_bulk(client)
        await bulk.aclose()
        await wait_until(lambda: thread_is_answered(threads), description="threads go on")
    threads.close()


async def answers(client: AsyncClient) -> bool:
    """The first command may find its connection dead."""
    with suppress(LogUnavailable):
        return bool(await execute(client, "PING"))
    return False


def thread_is_answered(threads: SyncClient) -> bool:
    with suppress(LogUnavailable):
        return execute_many_sync(threads, [("PING",)]) == [True]
    return False


async def test_a_wrong_password_and_a_missing_file_are_told_and_mended_by_the_file(client: AsyncClient, password: Path):
    password.write_text("wrong")
    with pytest.raises(LogUnavailable, match="invalid username-password pair"):
        await execute(client, "PING")
    password.unlink()
    with pytest.raises(LogUnavailable, match=f"the password file '{password}' cannot be read"):
        await execute(client, "PING")
    password.write_text("")
    with pytest.raises(LogUnavailable, match=rf"the password file '{password}' is empty. Put the password there."):
        await execute(client, "PING")
    password.write_text("first")
    assert await execute(client, "PING")


# A task from its creation to its end.


async def runs_a_task(url: str) -> None:
    client = connect(url, name="test")
    bench = Bench(client, Keys())
    async with working(url):
        task_id = await bench.create("emit_many", count=20)
        assert (await bench.end(task_id)).status.value == "completed"
        assert await bench.datas(task_id, "number") == [{"number": number} for number in range(20)]
    await client.aclose()


# With the rights that are documented.


def test_the_documented_rights_are_those_that_are_tested():
    text = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()
    assert f"ACL SETUSER reprise on >password {' '.join(RIGHTS)}\n" in text
    assert f"ACL SETUSER sentinel on >password2 {' '.join(WATCHING)}\n" in text
    assert f"ACL SETUSER replica on >password3 {' '.join(FOLLOWING)}\n" in text


async def does_everything(url: str, **settings: Any) -> None:
    """What servers, workers and writers do: run, cancel, give up, retry and delete tasks, write and follow streams."""
    durability: Any = settings.get("durability", "fast")
    async with serving(url, lease_seconds=LEASE_SECONDS, **settings) as web, working(url, **settings):
        await web.until_ready()
        await wait_until(lambda: offers(web, "fail"), description="the types are known", timeout=10)
        task = await web.create("emit_many", input={"count": 20}, execute=True)
        async with reading(web.client, f"/tasks/{task['id']}/events") as reader:
            events = await reader.rest()
        assert [data_of(event) for event in events if event.event == "number"] == [{"number": n} for n in range(20)]
        waiting = await web.create("wait", execute=True)
        async with reading(web.client, f"/tasks/{waiting['id']}/events") as reader:
            await reader.until("waiting")
            assert (await web.client.post(f"/tasks/{waiting['id']}/cancel")).status_code < 300
            assert (await reader.rest())[-1].event == "cancelled"
        later = await web.create("emit_many", input={"count": 1}, execute=True, delay=0.2)
        async with reading(web.client, f"/tasks/{later['id']}/events") as reader:
            assert (await reader.rest())[-1].event == "complete"
        assert (await web.client.delete(f"/tasks/{later['id']}")).status_code < 300
        assert (await web.client.get("/tasks")).status_code == 200
        assert (await web.client.get("/dead-letters")).status_code == 200
        async with reading(web.client, "/streams/chat.42/events") as reader:
            async with open_stream(url, "chat.42", durability=durability) as stream:
                await stream.emit("n", 1)
                await stream.complete()
            assert [event.event for event in await reader.rest()] == ["position", "n", "complete"]


async def offers(web: Web, name: str) -> bool:
    return name in (await web.client.get("/task-types")).text


def refused(server: RedisServer | RedisNode) -> list[Any]:
    """What a user had no right to there, as Redis noted it: not that a password came while it was being changed."""
    found: Any = server.command("ACL", "LOG")
    return [each for each in found if each["reason"] != "auth"]


async def test_a_user_with_only_the_rights_that_are_documented_can_do_everything(password: Path):
    with Replicated() as pair:
        for server in (pair.master, pair.replica):
            server.command("ACL", "SETUSER", "app", "on", ">first", *RIGHTS)
        await does_everything(f"{pair.url}?username=app&password_file={password}", durability="replicated")
        assert refused(pair.master) == []


@pytest.mark.timeout(120)
async def test_such_a_user_can_do_everything_in_a_cluster_while_slots_move(password: Path):
    async with clustered() as cluster:
        for node in cluster.nodes:
            node.command("ACL", "SETUSER", "app", "on", ">first", *RIGHTS)
        hosts = cluster.url.removeprefix("redis+cluster://")
        moving = asyncio.create_task(asyncio.to_thread(_move_some, cluster))
        await does_everything(f"redis+cluster://app@{hosts}?password_file={password}")
        await moving
        assert [refused(node) for node in cluster.nodes] == [[]] * 6


def _move_some(cluster: Cluster) -> None:
    for key in ("{system}", "{chat.42}", "{queue.default}", "{tasks}"):
        source = cluster.owner(key)
        target = next(node for node in cluster.masters if node is not source)
        cluster.move_slot(slot_of(key), source, target)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
async def guarded(certificates: Certificates) -> AsyncIterator[Sentinels]:
    """Everything by TLS, and nobody gets in without a password."""
    users = (
        "user default off",
        "user admin on >secret ~* &* +@all",
        f"user app on >first {' '.join(RIGHTS)}",
        f"user sentinel on >second {' '.join(WATCHING)}",
        f"user replica on >third {' '.join(FOLLOWING)}",
    )
    roles = {"auth": ("admin", "secret"), "watcher": ("sentinel", "second"), "follower": ("replica", "third")}
    with sentinels(lines=users, tls=certificates, **roles) as found:
        await found.settled()
        yield found


@needs_tls
@pytest.mark.timeout(400)
async def test_sentinels_and_master_are_reached_by_tls_and_the_password_is_rotated_over_a_failover(
    guarded: Sentinels, certificates: Certificates, password: Path
):
    hosts = ",".join(sentinel.address for sentinel in guarded.sentinels)
    given = f"password_file={password}&ssl_ca_certs={certificates.authority}"
    url = f"rediss+sentinel://app@{hosts}/{NAME}?{given}"
    await runs_a_task(url)
    for node in guarded.nodes:
        node.command("ACL", "SETUSER", "app", ">second", "<first")
    password.write_text("second\n")
    before = guarded.master
    guarded.sentinels[0].command("SENTINEL", "FAILOVER", NAME)
    await guarded.switched(before)
    await runs_a_task(url)
    await guarded.settled()
    assert [refused(node) for node in guarded.nodes] == [[]] * 3


@needs_tls
async def test_a_certificate_of_an_unknown_authority_is_refused(guarded: Sentinels):
    hosts = ",".join(sentinel.address for sentinel in guarded.sentinels)
    client = connect(f"rediss+sentinel://app:first@{hosts}/{NAME}", name="test")

    async def refused() -> bool:
        with pytest.raises(LogUnavailable, match="certificate verify failed"):
            await execute(client, "PING")
        return True

    await wait_until(refused, description="it is refused")
    await client.aclose()
