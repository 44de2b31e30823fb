"""What only a real connection shows: HEAD, keep-alive, chunks, back-pressure, a reader's sudden end, a drain."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from server.connection import StreamingConnection
from server.streams.records import Status
from tests.support.event_reader import EVENT_STREAM, EventReader, reading, types_of
from tests.support.played_worker import PlayedWorker, event
from tests.support.real_server import RealServer, real_server
from tests.support.waiting import wait_until

END_OF_CHUNKS = b"0\r\n\r\n"


@pytest.fixture(params=[StreamingConnection, "httptools", "h11"], ids=["handed over", "httptools", "h11"])
def http(request: pytest.FixtureRequest) -> Any:
    """Both ways out: the connection itself, and ASGI's `send` under servers that do not offer it."""
    return request.param


@pytest.fixture
async def real(redis_url: str, worker: PlayedWorker, http: Any) -> AsyncIterator[RealServer]:
    async with real_server(redis_url, http=http) as found:
        yield found
        await wait_until(lambda: found.hub.subscribers == 0, description="every subscription is closed")


async def create(real: RealServer) -> str:
    return (await real.client.post("/tasks", json={"type": "free"})).json()["id"]


Address = Callable[[str], str]


@pytest.fixture(params=["alone", "among several"])
async def address(real: RealServer, request: pytest.FixtureRequest) -> Address:
    """Where a task's stream is read: by itself, or together with one that has ended."""
    if request.param == "alone":
        return lambda task_id: f"/tasks/{task_id}/events"
    other = await create(real)
    await real.client.post(f"/tasks/{other}/cancel")
    await real.client.delete(f"/tasks/{other}")
    return lambda task_id: f"/events?stream=tasks.{other}&stream=tasks.{task_id}"


def request_bytes(path: str, *, method: str = "GET", extra: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n{extra}\r\n".encode()


async def head_of(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(30):
        return (await reader.readuntil(b"\r\n\r\n")).decode()


async def test_head_of_a_stream_leaves_the_connection_usable(real: RealServer) -> None:
    reader, writer = await real.connect()
    for _ in range(2):
        writer.write(request_bytes("/stream/system", method="HEAD"))
        head = await head_of(reader)
        assert head.startswith("HTTP/1.1 200 OK")
        assert "content-type: text/event-stream\r\n" in head
    assert real.hub.subscribers == 0
    writer.write(request_bytes("/health/live"))
    assert (await head_of(reader)).startswith("HTTP/1.1 200 OK")
    writer.close()
    await writer.wait_closed()


async def test_204_at_the_end_leaves_the_connection_usable(real: RealServer, worker: PlayedWorker) -> None:
    task_id = await create(real)
    async with worker.run(task_id) as run:
        last = await run.finish(Status.COMPLETED, '{"result":null}')
    reader, writer = await real.connect()
    for _ in range(2):
        writer.write(request_bytes(f"/tasks/{task_id}/events", extra=f"last-event-id: {last}\r\n"))
        head = await head_of(reader)
        assert head.startswith("HTTP/1.1 204 No Content")
        assert "content-length" not in head
    writer.close()
    await writer.wait_closed()


async def test_a_finished_stream_ends_its_chunks_and_leaves_the_connection_usable(
    real: RealServer, worker: PlayedWorker, address: Address
) -> None:
    task_id = await create(real)
    async with worker.run(task_id) as run:
        await run.finish(Status.COMPLETED, '{"result":null}')
    reader, writer = await real.connect()
    for _ in range(2):
        writer.write(request_bytes(address(task_id)))
        head = await head_of(reader)
        assert "transfer-encoding: chunked" in head.lower()
        assert "event: complete" in (await reader.readuntil(END_OF_CHUNKS)).decode()
    writer.close()
    await writer.wait_closed()


async def test_a_refusal_is_whole_and_leaves_the_connection_usable(
    redis_url: str, worker: PlayedWorker, http: Any
) -> None:
    async with real_server(redis_url, http=http, max_connections=1) as real:
        async with reading(real.client, "/stream/system") as first:
            await first.next()
            reader, writer = await real.connect()
            for _ in range(2):
                writer.write(request_bytes("/stream/system"))
                head = await head_of(reader)
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                assert (await reader.readexactly(length)).startswith(b"retry: ")
            writer.close()
            await writer.wait_closed()
        await wait_until(lambda: real.hub.subscribers == 0, description="the first reader is gone")


async def test_readers_that_vanish_are_forgotten(real: RealServer, address: Address) -> None:
    task_id = await create(real)
    connections = [await real.connect() for _ in range(50)]
    for reader, writer in connections:
        writer.write(request_bytes(address(task_id)))
        await head_of(reader)
    await wait_until(lambda: real.hub.subscribers == 50, description="all read")
    for _, writer in connections:
        raw = writer.get_extra_info("socket")
        # A reset, as from a process that was killed with unread bytes.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
    await wait_until(lambda: (real.hub.subscribers, real.hub.watched) == (0, 0), description="the hub is empty")


async def test_a_reader_that_does_not_read_holds_up_only_itself_and_can_go(
    real: RealServer, worker: PlayedWorker, address: Address
) -> None:
    task_id = await create(real)
    reader, writer = await asyncio.open_connection("127.0.0.1", real.port, limit=1024)
    writer.write(request_bytes(address(task_id)))
    await wait_until(lambda: real.hub.subscribers == 1, description="the stalled reader is there")
    async with worker.run(task_id) as run, reading(real.client, address(task_id)) as other:
        for number in range(100):
            await run.emit(event("token", {"text": "x" * 100_000, "n": number}))
        last = await run.finish(Status.COMPLETED, '{"result":null}')
        got = await other.rest()
    # One that comes before the ring of the first event is told its position first; and of the other its deletion.
    own = [each for each in got if each.event not in {"position", "cancelled"}]
    ids = [each.id.partition(",")[0].rpartition(":")[2] for each in own]
    assert ids == [f"{last.generation}-{number}" for number in range(102)]
    assert real.hub.subscribers == 1
    writer.transport.abort()
    assert not reader.at_eof()


async def test_a_body_that_is_too_large_is_refused_while_it_is_sent(real: RealServer) -> None:
    reader, writer = await real.connect()
    writer.write(
        b"POST /tasks HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n"
    )
    assert (await head_of(reader)).startswith("HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("http", [StreamingConnection], indirect=True)
async def test_a_request_for_a_websocket_is_answered_as_any_other_and_nothing_is_advised(
    real: RealServer, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await real.connect()
    upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: YQ==\r\n"
    writer.write(request_bytes("/nowhere", extra=upgrade))
    assert (await head_of(reader)).startswith("HTTP/1.1 404 ")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("path", ["/tasks/{}/events", "/events?stream=chat&stream=tasks.{}"])
async def test_a_server_that_stops_ends_every_stream_cleanly_and_with_a_time_to_come_back(
    redis_url: str, worker: PlayedWorker, http: Any, path: str
) -> None:
    async with real_server(redis_url, http=http) as real:
        task_id = await create(real)
        async with worker.run(task_id) as run:
            readers = [await real.connect() for _ in range(20)]
            for reader, writer in readers:
                writer.write(request_bytes(path.format(task_id)))
                await head_of(reader)
                await reader.readuntil(b"event: attempt")
            real.server.should_exit = True
            async with asyncio.timeout(30):
                bodies = [await reader.read() for reader, _ in readers]
                await real.serving
            assert all(body.endswith(END_OF_CHUNKS) and b"retry: " in body for body in bodies)
            for _, writer in readers:
                writer.close()
                await writer.wait_closed()
            await run.finish(Status.COMPLETED, '{"result":null}')


async def test_a_post_with_an_event_stream_answers_at_once_over_a_real_connection(
    real: RealServer, worker: PlayedWorker
) -> None:
    async with real.client.stream("POST", "/tasks", json={"type": "free"}, headers=EVENT_STREAM) as response:
        reader = EventReader(response)
        assert (await reader.next()).event == "position"
        async with worker.run(response.headers["location"].removeprefix("/tasks/")) as run:
            await run.finish(Status.FAILED, json.dumps({"error": "no", "code": "failed"}))
        assert types_of(await reader.rest()) == ["attempt", "error"]


async def test_polls_leave_the_connection_usable_and_one_whose_client_goes_is_forgotten(real: RealServer) -> None:
    reader, writer = await real.connect()
    for _ in range(2):
        writer.write(b"GET /streams/a/events?wait=0.1 HTTP/1.1\r\nhost: test\r\naccept: application/json\r\n\r\n")
        head = await head_of(reader)
        assert head.startswith("HTTP/1.1 200 OK")
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        assert json.loads(await reader.readexactly(length))["cursor"] == "0-0"
    writer.write(b"GET /streams/a/events?wait=60 HTTP/1.1\r\nhost: test\r\naccept: application/json\r\n\r\n")
    await wait_until(lambda: real.hub.subscribers == 1, description="it waits")
    writer.transport.abort()
    await wait_until(lambda: real.hub.subscribers == 0, description="it is forgotten")
