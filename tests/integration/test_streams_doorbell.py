"""Doorbells on a real server: watching, leaving, and coming back after the connection was lost."""

from __future__ import annotations

import asyncio

import pytest

from server.streams import ear
from server.streams.connections import AsyncClient, connect, execute
from server.streams.keys import Keys
from tests.support.ears import channels, ears, listening, rings, until_ears
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


async def test_a_watched_channel_rings_at_once_and_a_left_one_no_more(client: AsyncClient, redis_url: str):
    async with listening(redis_url) as found:
        await found.bells.watch("a", found.rung.append)
        assert await ears(client, "a") == 1
        await rings(client, "a", "1", found)
        found.bells.unwatch("a")
        await until_ears(client, "a", 0)
        assert found.bells.watched == 0


async def test_channels_are_told_apart(client: AsyncClient, redis_url: str):
    async with listening(redis_url) as found:
        heard: dict[str, list[bytes]] = {"a": [], "b": []}
        for channel, rung in heard.items():
            await found.bells.watch(channel, rung.append)
        for channel in ("a", "b", "a", "c"):
            await execute(client, "SPUBLISH", channel, channel)
        await wait_until(lambda: len(heard["a"]) == 2, description="a rings twice")
        assert heard == {"a": [b"a", b"a"], "b": [b"b"]}


async def test_a_channel_that_is_left_and_watched_again_at_once_still_rings(client: AsyncClient, redis_url: str):
    async with listening(redis_url) as found:
        await found.bells.watch("a", found.rung.append)
        for number in range(20):
            found.bells.unwatch("a")
            await found.bells.watch("a", found.rung.append)
            await rings(client, "a", str(number), found)


async def test_a_watch_before_there_is_a_connection_returns_and_rings_later(client: AsyncClient, redis_url: str):
    async with listening(redis_url, connected=False) as found:
        await asyncio.gather(*[found.bells.watch(f"c{number}", found.rung.append) for number in range(50)])
        await found.until_connected()

        async def all_watched() -> bool:
            return all([await ears(client, f"c{number}") == 1 for number in range(50)])

        await wait_until(all_watched, description="every channel is watched")


@pytest.mark.parametrize("way", ["CLIENT KILL", "watching at that moment"])
async def test_a_connection_that_redis_closed_is_made_again_with_every_channel(
    client: AsyncClient, redis_url: str, way: str
):
    async with listening(redis_url) as found:
        await found.bells.watch("a", found.rung.append)
        await execute(client, "CLIENT", "KILL", "TYPE", "pubsub")
        if way != "CLIENT KILL":
            await found.bells.watch("b", found.rung.append, timeout_seconds=0.2)
        await wait_until(lambda: found.told == ["connected", "disconnected", "connected"], description="it comes back")
        await rings(client, "a", "1", found)
        if way != "CLIENT KILL":
            await until_ears(client, "b", 1)
            await rings(client, "b", "2", found)


async def test_it_survives_the_death_of_the_server_and_counts_anew_for_how_long_it_is_connected():
    with RedisServer() as server:
        async with listening(server.url) as found:
            await found.bells.watch("a", found.rung.append)
            await wait_until(lambda: found.bells.connected_seconds > 0.05, description="connected for a while")
            server.kill()
            await wait_until(lambda: not found.bells.is_connected, description="the loss is noticed")
            assert found.bells.connected_seconds == 0
            server.start()
            await found.until_connected()
            client = connect(server.url, name="test")
            await rings(client, "a", "1", found)
            assert found.told[:2] == ["connected", "disconnected"]
            await client.aclose()


async def test_a_connection_that_went_silent_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ear, "_PROBE_SECONDS", 0.05)
    with RedisServer() as server:
        async with listening(server.url) as found:
            server.pause()
            await wait_until(lambda: "disconnected" in found.told, description="the silence is noticed")
            assert not found.bells.is_connected
            server.resume()
            await found.until_connected()


async def test_a_quiet_connection_that_answers_is_kept(monkeypatch: pytest.MonkeyPatch, redis_url: str):
    monkeypatch.setattr(ear, "_PROBE_SECONDS", 0.02)
    async with listening(redis_url) as found:
        await wait_until(lambda: found.bells.connected_seconds > 0.4, description="many probes went by")
        assert found.told == ["connected"]
        assert found.bells.is_connected


async def test_no_channel_is_left_subscribed_in_redis(client: AsyncClient, redis_url: str, keys: Keys):
    async with listening(redis_url) as found:
        for number in range(5):
            await found.bells.watch(keys.bell(str(number)), found.rung.append)
        for number in range(5):
            found.bells.unwatch(keys.bell(str(number)))

        async def only_home() -> bool:
            return await channels(client) == {b"home"}

        await wait_until(only_home, description="only home is left")
