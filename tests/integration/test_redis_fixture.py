"""The Redis that tests run against: that it can be killed, frozen and emptied as they need it."""

import pytest

from server.streams.connections import AsyncClient, connect, execute
from server.streams.errors import LogUnavailable
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


async def test_a_test_starts_with_an_empty_redis(client: AsyncClient) -> None:
    assert await execute(client, "DBSIZE") == 0
    await execute(client, "SET", "left behind", "", "PX", 60_000)


async def test_a_test_starts_with_an_empty_redis_again(client: AsyncClient) -> None:
    assert await execute(client, "DBSIZE") == 0
    await execute(client, "SET", "left behind", "", "PX", 60_000)


async def test_a_killed_server_comes_back_with_its_data() -> None:
    with RedisServer(keeps_data=True) as server:
        server.command("SET", "kept", "1")
        server.kill()
        client = connect(server.url, name="test")
        with pytest.raises(LogUnavailable):
            await execute(client, "GET", "kept")
        server.start()
        assert await execute(client, "GET", "kept") == b"1"
        await client.aclose()


async def test_a_paused_server_answers_nobody_until_it_is_resumed() -> None:
    with RedisServer() as server:
        server.pause()
        client = connect(server.url, name="test", socket_timeout=1)
        with pytest.raises(LogUnavailable, match="Timeout"):
            await execute(client, "PING")
        server.resume()
        await wait_until(lambda: execute(client, "PING"), description="Redis answers again")
        await client.aclose()


async def test_waiting_for_what_never_comes_fails_with_its_description() -> None:
    with pytest.raises(AssertionError, match="pigs fly"):
        await wait_until(lambda: False, description="pigs fly", timeout=0.05)
