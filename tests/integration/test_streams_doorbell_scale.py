"""Doorbells with many channels: what is asked at once goes out at once, and costs no asyncio task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.streams import ear
from server.streams.connections import AsyncClient, connect, execute, execute_many
from server.streams.push import PushConnection
from tests.support.ears import channels, listening
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

MANY = [f"reprise:{{chat.{number}}}:bell" for number in range(5000)]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands each write held."""
    found: list[int] = []
    send = PushConnection.send

    def noting(self: PushConnection, commands: list[tuple[bytes, ...]]) -> None:
        found.append(len(commands))
        send(self, commands)

    monkeypatch.setattr(PushConnection, "send", noting)
    return found


async def test_thousands_watched_at_once_are_confirmed_without_an_asyncio_task(client: AsyncClient, redis_url: str):
    async with listening(redis_url) as found:
        before = asyncio.all_tasks()
        ready = [found.bells.watch(channel, found.rung.append) for channel in MANY]
        assert found.bells.watched == len(MANY)
        await ready[-1]
        assert asyncio.all_tasks() == before
        assert all(each.done() for each in ready)
        assert await channels(client) == {b"home", *(channel.encode() for channel in MANY)}
        await execute_many(client, [("SPUBLISH", channel, channel) for channel in MANY])
        await wait_until(lambda: len(found.rung) == len(MANY), description="every channel rings")
        assert found.rung == [channel.encode() for channel in MANY]
        for channel in MANY:
            found.bells.unwatch(channel)

        async def only_home() -> bool:
            return await channels(client) == {b"home"}

        await wait_until(only_home, description="every channel is left")


async def test_what_is_asked_in_one_turn_goes_out_in_one_write(redis_url: str, writes: list[int]):
    async with listening(redis_url) as found:
        writes.clear()
        await asyncio.gather(*(found.bells.watch(channel, found.rung.append) for channel in MANY[:300]))
        assert writes == [300]
        for channel in MANY[:100]:
            found.bells.unwatch(channel)
        await found.bells.watch("a", found.rung.append)
        assert writes == [300, 101]


async def test_many_changes_are_spread_over_turns_of_the_event_loop(redis_url: str, writes: list[int]):
    async with listening(redis_url) as found:
        writes.clear()
        turns = 0
        ready = [found.bells.watch(channel, found.rung.append) for channel in MANY]
        while not ready[-1].done():
            await asyncio.sleep(0)
            turns += 1
        assert sum(writes) == len(MANY)
        assert max(writes) < 1000
        assert turns > len(writes)


async def test_coming_and_going_costs_no_command_that_changes_nothing(client: AsyncClient, redis_url: str):
    async with listening(redis_url) as found:
        await found.bells.watch("stays", found.rung.append)
        await execute(client, "CONFIG", "RESETSTAT")
        for _ in range(50):
            found.bells.watch("passes", found.rung.append)
            found.bells.unwatch("passes")
            found.bells.unwatch("stays")
            found.bells.watch("stays", found.rung.append)
        await found.bells.watch("last", found.rung.append)
        assert await calls_of(client) == {"ssubscribe": 2}  # of `stays` and `last`


async def calls_of(client: AsyncClient) -> dict[str, int]:
    """How often which command of sharded pub/sub was called."""
    stats: Any = await execute(client, "INFO", "commandstats")
    return {
        name.removeprefix("cmdstat_"): found["calls"]
        for name, found in stats.items()
        if name in {"cmdstat_ssubscribe", "cmdstat_sunsubscribe"}
    }


async def test_a_reconnect_subscribes_thousands_and_says_so_when_the_last_one_is(
    client: AsyncClient, redis_server: RedisServer, redis_url: str
):
    async with listening(redis_url) as found:
        await asyncio.gather(*(found.bells.watch(channel, found.rung.append) for channel in MANY))
        subscribed: list[Any] = []
        found.bells.on_connect = lambda: subscribed.append(redis_server.command("PUBSUB", "SHARDCHANNELS"))
        await execute(client, "CLIENT", "KILL", "TYPE", "pubsub")
        await wait_until(lambda: subscribed, description="it is connected again")
        assert set(subscribed[0]) == {b"home", *(channel.encode() for channel in MANY)}


async def test_a_frozen_server_is_asked_no_more_than_it_takes_and_for_the_last_state_when_it_moves_again(
    writes: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ear, "_PROBE_SECONDS", 60)  # it is not given up, however long that takes
    with RedisServer() as server:
        async with listening(server.url) as found:
            server.pause()
            for _ in range(10):
                for channel in MANY:
                    found.bells.watch(channel, found.rung.append)
                await turns(40)
                for channel in MANY:
                    found.bells.unwatch(channel)
                await turns(40)
            assert sum(writes) < 3 * len(MANY)
            ready = found.bells.watch("a", found.rung.append, timeout_seconds=60)
            server.resume()
            await ready
            client = connect(server.url, name="test")

            async def only_these() -> bool:
                return await channels(client) == {b"home", b"a"}

            await wait_until(only_these, description="every other channel is left")
            assert found.told == ["connected"]
            await client.aclose()


async def test_a_frozen_server_is_let_go_with_what_was_not_written_yet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ear, "_PROBE_SECONDS", 0.1)
    with RedisServer() as server:
        async with listening(server.url) as found:
            only = found.bells._only
            assert only
            lost = only._push
            assert lost
            server.pause()
            for channel in [*MANY, *(f"{channel}.{number}" for channel in MANY for number in range(3))]:
                found.bells.watch(channel, found.rung.append)
            await wait_until(lambda: lost.is_full, description="it takes no more")
            await found.until_told("connected", "disconnected")
            await turns(2)
            assert lost._transport.get_write_buffer_size() == 0
            server.resume()
            await found.until_told("connected", "disconnected", "connected")


async def turns(count: int) -> None:
    """Let the event loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)
