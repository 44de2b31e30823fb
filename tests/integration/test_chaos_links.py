"""The fault proxy of chaos runs: each weather does what it says, and a clear one changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from tests.chaos.links import WEATHERS, Link
from tests.support.waiting import wait_until

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Connection]]


class Echo:
    """Says everything back; counts connections and what came."""

    def __init__(self) -> None:
        self.connections = 0
        self.bytes = 0
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while raw := await reader.read(65_536):
                self.bytes += len(raw)
                writer.write(raw)
                await writer.drain()
        except OSError:  # cut off
            pass
        finally:
            self.ended += 1
            writer.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def link(echo: Echo) -> AsyncIterator[Link]:
    async with await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server:
        found = Link("link", server.sockets[0].getsockname()[1])
        await found.open()
        yield found
        await found.close()
        await wait_until(lambda: echo.ended == echo.connections, description="no connection is left")


@pytest.fixture
async def connect(link: Link) -> AsyncIterator[Connect]:
    """Opens a connection by the link; all are closed in the end."""
    opened: list[Connection] = []

    async def connect() -> Connection:
        opened.append(await asyncio.open_connection("127.0.0.1", link.port))
        return opened[-1]

    yield connect
    for _, writer in opened:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def heard(connection: Connection, count: int) -> bytes:
    async with asyncio.timeout(30):
        return await connection[0].readexactly(count)


async def hears_nothing(connection: Connection, seconds: float = 0.3) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return not await connection[0].read(1)
    except TimeoutError:
        return True


async def test_bytes_pass_both_ways_unchanged_and_ends_are_passed_on(link: Link, connect: Connect, echo: Echo):
    connection = await connect()
    said = bytes(range(256)) * 4000
    connection[1].write(said)
    assert await heard(connection, len(said)) == said
    connection[1].close()
    await wait_until(lambda: echo.ended == 1 and not link.pairs, description="the end has arrived")


async def test_latency_keeps_the_order_also_when_it_ends(link: Link, connect: Connect):
    connection = await connect()
    WEATHERS["latency"](link, 1.0)
    connection[1].write(b"first ")
    assert await hears_nothing(connection, 0.1)
    link.calm()
    connection[1].write(b"second")
    assert await heard(connection, 12) == b"first second"


async def test_a_drip_holds_little_and_lets_everything_through_in_the_end(link: Link, connect: Connect, echo: Echo):
    connection = await connect()
    WEATHERS["drip"](link, 2000)
    said = b"x" * 4_000_000
    connection[1].write(said)
    assert await heard(connection, 100) == b"x" * 100
    assert echo.bytes < 10_000
    link.calm()
    assert len(await heard(connection, len(said) - 100)) == len(said) - 100


async def test_a_black_hole_swallows_nothing_for_good(link: Link, connect: Connect, echo: Echo):
    before = await connect()
    before[1].write(b"a")
    assert await heard(before, 1) == b"a"
    WEATHERS["black-hole"](link, 0)
    during = await connect()
    for connection in (before, during):
        connection[1].write(b"hello")
        assert await hears_nothing(connection)
    assert echo.bytes == 1
    link.calm()
    for connection in (before, during):
        assert await heard(connection, 5) == b"hello"


async def test_a_cut_comes_after_so_many_bytes_and_strikes_new_connections_too(link: Link, connect: Connect):
    standing = await connect()
    WEATHERS["cut"](link, 10)
    for connection in (standing, await connect()):
        connection[1].write(b"1234567")
        assert await heard(connection, 3) == b"123"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await heard(connection, 1)
    link.calm()
    healed = await connect()
    healed[1].write(b"1234567")
    assert await heard(healed, 7) == b"1234567"


async def test_a_half_open_connection_swallows_what_is_sent_and_new_ones_pass(link: Link, connect: Connect, echo: Echo):
    dead = await connect()
    dead[1].write(b"a")
    assert await heard(dead, 1) == b"a"
    WEATHERS["half-open"](link, 0)
    await wait_until(lambda: echo.ended == 1, description="the listener has lost it")
    dead[1].write(b"hello")
    assert await hears_nothing(dead)
    fresh = await connect()
    fresh[1].write(b"hello")
    assert await heard(fresh, 5) == b"hello"
    assert echo.bytes == 6
    link.calm()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await heard(dead, 1)
    fresh[1].write(b"on")
    assert await heard(fresh, 2) == b"on"


async def test_a_listener_that_is_not_there_ends_the_connection(link: Link, connect: Connect):
    link.upstream = 1
    connection = await connect()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await heard(connection, 1)
