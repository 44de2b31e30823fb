"""The connection on which Redis speaks first: every way to connect, and whatever may come on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import redis.asyncio
import uvloop

from server.streams import ear, push
from server.streams.connections import AsyncClient, connect, execute, execute_many, new_connection
from server.streams.topology.node import transport_of
from tests.support.ears import Listening, connections, ears, listening, rings, until_ears
from tests.support.redis_server import RedisServer
from tests.support.relay import Relay, relaying
from tests.support.waiting import wait_until

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@asynccontextmanager
async def reached(redis_url: str, way: str) -> AsyncGenerator[str]:
    """An address of the server."""
    if way == "socket":
        yield redis_url
        return
    async with relaying(redis_url, tls=way == "TLS") as relay:
        yield relay.url


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", ["socket", "TCP", "TLS"])
def test_a_burst_that_is_cut_off_arrives_in_order_up_to_the_cut_and_goes_on_after_it(
    redis_url: str, way: str, loop: str
):
    async def burst() -> None:
        client = connect(redis_url, name="test")
        async with reached(redis_url, way) as url, listening(url) as found:
            names = [f"c{number}" for number in range(20)]
            await asyncio.gather(*(found.bells.watch(name, found.rung.append) for name in names))
            for part in range(3):
                await execute_many(client, [("SPUBLISH", names[n % 20], f"{part}-{n:04}") for n in range(2000)])
                await execute(client, "CLIENT", "KILL", "TYPE", "pubsub")
                await found.until_told("connected", *["disconnected", "connected"] * (part + 1))
                await rings(client, "c7", f"{part}-last", found)
            assert found.rung == sorted(found.rung)  # so none came twice
            assert len(set(found.rung)) == len(found.rung)
        await client.aclose()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(burst())


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_versions_of_the_protocol_are_understood(client: AsyncClient, redis_url: str, protocol: int):
    made: Any = redis.asyncio.Redis.from_url(redis_url, protocol=protocol, client_name="bells")  # pyright: ignore[reportUnknownMemberType]
    async with listening(redis_url, client=cast("AsyncClient", made)) as found:
        await found.bells.watch("a", found.rung.append)
        assert [each["resp"] for each in await connections(client)] == [str(protocol)]
        await rings(client, "a", "1", found)
        found.bells.unwatch("a")
        await until_ears(client, "a", 0)


async def test_the_users_name_and_password_are_used(client: AsyncClient, redis_url: str):
    await execute(client, "ACL", "SETUSER", "bellboy", "on", ">secret", "~*", "+@all", "allchannels")
    try:
        async with listening(redis_url.replace("unix://", "unix://bellboy:secret@")) as found:
            assert [each["user"] for each in await connections(client)] == ["bellboy"]
            await found.bells.watch("a", found.rung.append)
            await rings(client, "a", "1", found)
    finally:
        await execute(client, "ACL", "DELUSER", "bellboy")


async def test_the_transport_of_a_connection_is_found_where_this_redis_py_keeps_it(redis_url: str):
    client = connect(redis_url, name="test")
    connection = new_connection(client)
    await connection.connect()
    try:
        assert isinstance(transport_of(connection), asyncio.Transport)
    finally:
        await connection.disconnect()


# What comes on the wire.


@asynccontextmanager
async def relayed(redis_url: str) -> AsyncGenerator[tuple[Relay, Listening]]:
    async with relaying(redis_url) as relay, listening(relay.url) as found:
        yield relay, found


@pytest.mark.parametrize("piece", [1, 7])
async def test_messages_that_come_in_pieces_are_put_together(client: AsyncClient, redis_url: str, piece: int):
    async with relayed(redis_url) as (relay, found):
        await found.bells.watch("a", found.rung.append)
        relay.piece = piece
        payloads = [b"", b"\r\n", b"$-1\r\n", "é\0".encode(), b"x" * 300]
        await execute_many(client, [("SPUBLISH", "a", payload) for payload in payloads])
        await wait_until(lambda: len(found.rung) == len(payloads), description="all arrive")
        assert found.rung == payloads
        assert found.told == ["connected"]


async def test_a_message_larger_than_any_read_arrives_whole(client: AsyncClient, redis_url: str):
    async with listening(redis_url) as found:
        await found.bells.watch("a", found.rung.append)
        for payload in (b"1" * 3_000_000, b"2"):
            await execute(client, "SPUBLISH", "a", payload)
        await wait_until(lambda: len(found.rung) == 2, description="both arrive")
        assert found.rung == [b"1" * 3_000_000, b"2"]


async def test_a_message_that_is_cut_off_is_not_delivered(client: AsyncClient, redis_url: str):
    async with relayed(redis_url) as (relay, found):
        await found.bells.watch("a", found.rung.append)
        relay.add(b">3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$100\r\nhalf of it")
        relay.cut()
        await found.until_told("connected", "disconnected", "connected")
        await rings(client, "a", "whole", found)
        assert found.rung == [b"whole"]


ODD = {
    b"!what?\r\n": "what is not its protocol",
    b"+OK\r\n": "was not asked for",
    b"-ERR odd\r\n": "was not asked for",
    b">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n": "ended the subscription of 'a' by itself",
    b">3\r\n$10\r\nssubscribe\r\n$1\r\nb\r\n:3\r\n": "subscribed 'b', which was not asked for",
}


@pytest.mark.parametrize("raw", ODD)
async def test_what_fits_nothing_ends_the_connection_with_a_reason_and_the_next_one_has_every_channel(
    client: AsyncClient, redis_url: str, raw: bytes, caplog: pytest.LogCaptureFixture
):
    async with relayed(redis_url) as (relay, found):
        await found.bells.watch("a", found.rung.append)
        relay.add(raw)
        await found.until_told("connected", "disconnected", "connected")
        assert ODD[raw] in caplog.text
        await rings(client, "a", "1", found)


async def test_what_comes_together_with_the_greeting_ends_the_connection_too(
    client: AsyncClient, redis_url: str, caplog: pytest.LogCaptureFixture
):
    async with relaying(redis_url) as relay:
        relay.after_greeting = b"+more\r\n"
        async with listening(relay.url) as found:
            assert "The connection that tells of new events is down: Redis sent " in caplog.text
            await found.bells.watch("a", found.rung.append)
            await rings(client, "a", "1", found)


async def test_a_push_of_another_kind_changes_nothing(client: AsyncClient, redis_url: str):
    async with relayed(redis_url) as (relay, found):
        await found.bells.watch("a", found.rung.append)
        relay.add(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n>3\r\n$8\r\nsmessage\r\n$1\r\nb\r\n$1\r\n1\r\n")
        await rings(client, "a", "1", found)
        assert found.told == ["connected"]
        assert found.rung == [b"1"]


async def test_a_server_that_accepts_and_says_nothing_is_given_up_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(push, "_CONNECT_SECONDS", 0.2)
    with RedisServer() as server:
        server.pause()
        async with listening(server.url, connected=False) as found:
            await wait_until(
                lambda: "The connection that tells of new events is down" in caplog.text, description="it is given up"
            )
            assert not found.bells.is_connected
            server.resume()
            await found.until_connected()


async def test_a_watch_on_a_frozen_server_is_over_after_its_time(redis_url: str):
    with RedisServer() as server:
        async with listening(server.url) as found:
            server.pause()
            async with asyncio.timeout(30):
                await found.bells.watch("a", found.rung.append, timeout_seconds=0.1)
            server.resume()
            client = connect(server.url, name="test")
            await until_ears(client, "a", 1)
            await rings(client, "a", "1", found)
            await client.aclose()


# Refusals.


@asynccontextmanager
async def only_channels(client: AsyncClient, *names: str) -> AsyncGenerator[str]:
    """What to put into a URL for a user who may listen to these channels only."""
    rules = [f"&{name}" for name in names]
    await execute(client, "ACL", "SETUSER", "few", "on", ">few", "~*", "+@all", "resetchannels", *rules)
    try:
        yield "few:few@"
    finally:
        await execute(client, "ACL", "DELUSER", "few")


async def test_a_refused_channel_leaves_the_others_alone_and_is_asked_for_again(
    client: AsyncClient, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(ear, "_PROBE_SECONDS", 0.05)
    async with (
        only_channels(client, "home", "a") as user,
        listening(redis_url.replace("unix://", f"unix://{user}")) as found,
    ):
        await asyncio.gather(*(found.bells.watch(name, found.rung.append) for name in ("b", "a")))
        assert "Redis refuses to tell of new events on 'b'" in caplog.text
        assert await ears(client, "b") == 0
        await rings(client, "a", "1", found)
        await execute(client, "ACL", "SETUSER", "few", "&b")
        await until_ears(client, "b", 1)
        await rings(client, "b", "2", found)
        assert found.told == ["connected"]


async def test_without_its_home_it_is_not_connected_until_that_is_permitted(
    client: AsyncClient, redis_url: str, caplog: pytest.LogCaptureFixture
):
    async with (
        only_channels(client, "a") as user,
        listening(redis_url.replace("unix://", f"unix://{user}"), connected=False) as found,
    ):
        await wait_until(lambda: "Redis refused 'home': NOPERM" in caplog.text, description="it says why")
        assert not found.bells.is_connected
        await execute(client, "ACL", "SETUSER", "few", "&home")
        await found.until_connected()


async def test_one_connection_is_open_however_often_it_was_lost(client: AsyncClient, redis_url: str):
    async with listening(redis_url) as found:
        for times in range(1, 6):
            await execute(client, "CLIENT", "KILL", "TYPE", "pubsub")
            await found.until_told("connected", *["disconnected", "connected"] * times)
        assert len(await connections(client)) == 1

    async def none() -> bool:
        return await connections(client) == []

    await wait_until(none, description="it is closed in the end")
