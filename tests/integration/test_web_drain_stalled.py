"""A stop while a reader takes nothing from its socket: others leave in order, it is cut off, and the process ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from server.connection import StreamingConnection
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.log import Log
from tests.support.log_hand import LIFETIMES
from tests.support.real_server import RealServer, real_server
from tests.support.waiting import wait_until

REQUEST = b"GET /streams/chat/events HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n"
END_OF_CHUNKS = b"0\r\n\r\n"


@pytest.fixture(params=[StreamingConnection, "httptools", "h11"], ids=["handed over", "httptools", "h11"])
def http(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def stalled() -> Iterator[socket.socket]:
    """A client that asks for the stream and, once its socket is full, reads nothing."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield found


def is_full(real: RealServer, client: socket.socket) -> bool:
    """Whether the server holds as much for this client as it may, and writes no more until some is taken."""
    connections: list[Any] = list(real.server.server_state.connections)
    transports = [each.transport for each in connections]
    (own,) = [each for each in transports if each.get_extra_info("peername") == client.getsockname()]
    _, most = own.get_write_buffer_limits()
    return own.get_write_buffer_size() > most


async def test_a_reader_that_takes_nothing_is_cut_off_when_the_drain_is_over_and_holds_nobody_up(
    redis_url: str, client: Any, keys: Keys, http: Any, stalled: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0)
    await log.publish("chat", [Draft("t", "first")])
    async with real_server(redis_url, http=http, drain_seconds=1, stall_seconds=600) as real:
        await asyncio.to_thread(stalled.connect, ("127.0.0.1", real.port))
        stalled.sendall(REQUEST)
        await asyncio.to_thread(stalled.recv, 1)
        reader, writer = await real.connect()
        writer.write(REQUEST)
        reading = asyncio.create_task(reader.read(), name="a reader that reads")

        async def is_stalled() -> bool:
            await log.publish("chat", [Draft("t", "x" * 250_000)])
            return is_full(real, stalled) and real.hub.subscribers == 2

        await wait_until(is_stalled, description="the server cannot write to the one")
        caplog.clear()
        real.server.should_exit = True
        async with asyncio.timeout(20):  # without the cut: ten minutes
            await real.serving
        body = await reading
        assert b"retry: " in body
        assert body.endswith(END_OF_CHUNKS)
        writer.close()
        stalled.setblocking(True)
        with suppress(ConnectionError):
            rest = await asyncio.to_thread(_all_of, stalled)
            assert not rest.endswith(END_OF_CHUNKS)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    of_reader = ["1 reader(s) did not take the end of their stream in time and were cut off"]
    # Where uvicorn writes, its connection is cut apart from the stream, which ends by itself if there was room.
    apart = ["1 connection(s) did not come to an end in time and are cut off"]
    assert said in ([of_reader] if http is StreamingConnection else [[*of_reader, *apart], apart])


def _all_of(found: socket.socket) -> bytes:
    parts: list[bytes] = []
    while part := found.recv(65536):
        parts.append(part)
    return b"".join(parts)
