"""Doorbells that run, for tests: what they heard, what they told, and what Redis knows of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from server.streams.connections import AsyncClient, connect, execute
from server.streams.doorbell import Doorbells
from server.streams.errors import LogUnavailable
from tests.support.waiting import wait_until


@dataclass
class Listening:
    """Doorbells that run, and what they told."""

    bells: Doorbells
    rung: list[bytes] = field(default_factory=list[bytes])
    told: list[str] = field(default_factory=list[str])

    async def until_connected(self) -> None:
        await wait_until(lambda: self.bells.is_connected, description="the doorbell is connected")

    async def until_told(self, *told: str) -> None:
        await wait_until(lambda: self.told == list(told), description=f"{told}, not {self.told}")


@asynccontextmanager
async def listening(
    url: str, *, connected: bool = True, client: AsyncClient | None = None
) -> AsyncGenerator[Listening]:
    """Run doorbells. Nothing of them may be left afterwards."""
    before = asyncio.all_tasks()
    client = client or connect(url, name="bells", socket_timeout=None)
    found = Listening(Doorbells(client, home="home"))
    found.bells.on_connect = lambda: found.told.append("connected")
    found.bells.on_disconnect = lambda: found.told.append("disconnected")
    running = asyncio.create_task(found.bells.run(), name="bells")
    try:
        if connected:
            await found.until_connected()
        yield found
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.aclose()

    def left() -> list[str]:
        names = [each.get_name() for each in asyncio.all_tasks() - before]
        return [name for name in names if not name.startswith("relay")]

    # Another client of a Cluster looks at its map now and then.
    await wait_until(lambda: not left(), description="nothing of the doorbells is left")


async def ears(client: AsyncClient, channel: str) -> int:
    """How many connections Redis would ring on this channel."""
    return (await execute(client, "PUBSUB", "SHARDNUMSUB", channel))[1]


async def until_ears(client: AsyncClient, channel: str, count: int) -> None:
    async def are_so_many() -> bool:
        return await ears(client, channel) == count

    await wait_until(are_so_many, description=f"{count} connections listen to {channel!r}")


async def channels(client: AsyncClient) -> set[bytes]:
    """Every channel that somebody listens to."""
    return set(await execute(client, "PUBSUB", "SHARDCHANNELS"))


async def connections(client: AsyncClient, name: str = "bells") -> list[dict[str, str]]:
    """What Redis says about each connection of this name."""
    lines = (await execute(client, "CLIENT", "LIST")).decode().splitlines()
    found = [dict(word.split("=", 1) for word in line.split(" ")) for line in lines]
    return [each for each in found if each["name"] == name]


async def until_it_rings(client: AsyncClient, channel: str, payload: str, found: Listening) -> None:
    """Ring until it is heard: as long as a doorbell has not noticed that its server was replaced, rings are lost."""

    async def is_heard() -> bool:
        with suppress(LogUnavailable):
            await execute(client, "SPUBLISH", channel, payload)
        return payload.encode() in found.rung

    await wait_until(is_heard, description=f"{payload!r} arrives", timeout=90)


async def rings(client: AsyncClient, channel: str, payload: str, found: Listening) -> None:
    """Ring, and wait until it is heard."""
    await execute(client, "SPUBLISH", channel, payload)
    await wait_until(lambda: payload.encode() in found.rung, description=f"{payload!r} arrives")
