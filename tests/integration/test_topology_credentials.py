"""Who Reprise is to Redis: users with few rights, passwords from files that are rotated, TLS with an own authority."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from shutil import which

import pytest

from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient, SyncClient, connect, connect_sync, execute, execute_many_sync
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from tests.support.certificates import Certificates, make_certificates
from tests.support.ears import listening, rings
from tests.support.redis_server import RedisServer
from tests.support.sentinels import NAME, Sentinels, sentinels
from tests.support.waiting import wait_until
from tests.support.working import Bench, working

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
needs_tls = pytest.mark.skipif(
    not (which("redis-server") and which("openssl")), reason="redis-server or openssl is not installed on this machine"
)


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


async def test_a_user_with_only_the_rights_that_are_documented_can_do_everything(
    own_redis: RedisServer, password: Path
):
    own_redis.command("ACL", "SETUSER", "app", "on", ">first", *RIGHTS)
    await runs_a_task(url_for(own_redis, password))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
async def guarded(certificates: Certificates) -> AsyncIterator[Sentinels]:
    """Everything by TLS, and nobody gets in without a password."""
    users = ("user default off", "user admin on >secret ~* &* +@all", f"user app on >first {' '.join(RIGHTS)}")
    with sentinels(lines=users, auth=("admin", "secret"), tls=certificates) as found:
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
