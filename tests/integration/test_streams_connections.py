"""Commands on a real server: what a caller may rely on beside the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from server.streams import calls
from server.streams.connections import AsyncClient, Command, connect, execute, execute_many, execute_packed, run
from server.streams.errors import LogUnavailable
from server.streams.ids import ORIGIN
from server.streams.keys import Keys
from tests.support.ears import connections
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_server import RedisServer
from tests.support.relay import relaying
from tests.support.replicated import Replicated
from tests.support.waiting import wait_until

WAYS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "a command": lambda client: execute(client, "PING"),
    "a pipeline": lambda client: execute_many(client, [("PING",), ("PING",)]),
    "packed commands": lambda client: execute_packed(client, [("PING",), ("PING",)]),
    "a script": lambda client: run(client, calls.read(Keys(), "chat", first=ORIGIN, last=None, limit=0)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_caller_that_is_cancelled_while_redis_answers_ends_wherever_it_stands(client: AsyncClient, way: str):
    await WAYS[way](client)  # so that a connection is there
    for turns in range(12):
        asking = asyncio.ensure_future(WAYS[way](client))
        for _ in range(turns):
            await asyncio.sleep(0)
        if asking.cancel():
            with pytest.raises(asyncio.CancelledError):
                await asking


# Packed commands.


async def test_packed_commands_are_answered_in_order_as_the_reply_comes_on_the_wire(client: AsyncClient):
    await execute(client, "SET", "big", "x" * 1_000_000, "PX", 60_000)
    commands: list[Command] = [("ECHO", str(number)) for number in range(3000)]
    replies = await execute_packed(client, [*commands, ("GET", "big"), ("GET", "none"), ("LRANGE", "none", 0, -1)])
    assert replies == [*(b"%d" % number for number in range(3000)), b"x" * 1_000_000, None, []]
    assert await execute_packed(client, []) == []
    assert await execute(client, "ECHO", "next") == b"next"


async def test_packed_commands_of_which_one_is_refused_raise_and_the_connection_goes_on(client: AsyncClient):
    with pytest.raises(LogUnavailable, match="Redis refused: ERR unknown command"):
        await execute_packed(client, [("ECHO", "1"), ("NONSENSE",), ("ECHO", "2")])
    assert await execute_packed(client, [("ECHO", "3")]) == [b"3"]


async def test_packed_commands_whose_replies_are_lost_raise_and_later_ones_get_their_own(redis_url: str):
    async with FaultProxy(redis_url) as proxy:
        client = connect(proxy.url, name="test")
        proxy.lose_reply("ECHO", skip=1)
        with pytest.raises(LogUnavailable, match="Redis did not answer"):
            await execute_packed(client, [("ECHO", "1"), ("ECHO", "2"), ("ECHO", "3")])
        assert await execute_packed(client, [("ECHO", "4")]) == [b"4"]
        await client.aclose()


async def test_packed_commands_to_a_frozen_server_end_by_the_clients_time_and_leave_no_reply_behind():
    with RedisServer() as server:
        client = connect(server.url, name="test", socket_timeout=1)
        await execute_packed(client, [("ECHO", "1")])
        server.pause()
        with pytest.raises(LogUnavailable, match="Redis did not answer"):
            await execute_packed(client, [("ECHO", "2")])
        server.resume()
        assert await execute_packed(client, [("ECHO", "3")]) == [b"3"]
        await client.aclose()


async def test_packed_commands_and_something_nobody_asked_for_give_the_connection_up(redis_url: str):
    async with relaying(redis_url) as relay:
        client = connect(relay.url, name="test")
        asking = asyncio.ensure_future(execute_packed(client, [("BLPOP", "none", 0)]))
        other = connect(redis_url, name="other")

        async def is_blocked() -> bool:
            return any("b" in each["flags"] for each in await connections(other, "test"))

        await wait_until(is_blocked, description="it waits")
        relay.add(b"+more\r\n+and more\r\n")
        with pytest.raises(LogUnavailable, match="more replies than it was asked for"):
            await asking
        assert await execute_packed(client, [("ECHO", "1")]) == [b"1"]
        await other.aclose()
        await client.aclose()


@pytest.mark.parametrize("command", [("SET", "a", "1", "PX", 60_000), ("WAIT", 1, 10)], ids=["a write", "a wait"])
async def test_a_master_that_was_demoted_is_left_with_its_first_refusal_of_packed_commands(command: Command):
    with Replicated() as pair:
        client = connect(pair.url, name="test")
        # Several connections, each of which leads to the old master.
        await asyncio.gather(*(execute(client, "PING") for _ in range(3)))
        pair.demote()
        with pytest.raises(LogUnavailable) as refused:
            await execute_packed(client, [("ECHO", "1"), command])
        assert refused.value.code == "READONLY"
        for _ in range(3):
            assert await execute_packed(client, [("SET", "a", "2", "PX", 60_000)]) == [b"OK"]
        await client.aclose()
