"""A connection that an event stream has taken over: what it costs, and what else a client may send on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.connection import StreamingConnection
from server.streams.records import Status
from tests.support.event_reader import reading
from tests.support.played_worker import PlayedWorker, event
from tests.support.real_server import RealServer, real_server
from tests.support.waiting import wait_until

END_OF_CHUNKS = b"0\r\n\r\n"
#: Above what a busy machine may keep a reader that wants to read from reading.
STALL_SECONDS = 4.0
#: A task by itself, and among several streams.
PATHS = ["/tasks/{}/events", "/events?stream=chat&stream=tasks.{}&stream=system"]


@pytest.fixture(params=[StreamingConnection, "httptools"], ids=["handed over", "plain"])
async def stalling(redis_url: str, worker: PlayedWorker, request: Any) -> AsyncIterator[RealServer]:
    """A server that gives up readers after some seconds, on both ways out."""
    async with real_server(redis_url, http=request.param, stall_seconds=STALL_SECONDS) as found:
        yield found
        await wait_until(lambda: found.hub.subscribers == 0, description="every subscription is closed")


@pytest.fixture
async def real(redis_url: str, worker: PlayedWorker) -> AsyncIterator[RealServer]:
    async with real_server(redis_url) as found:
        yield found
        await wait_until(lambda: found.hub.subscribers == 0, description="every subscription is closed")


async def create(real: RealServer) -> str:
    return (await real.client.post("/tasks", json={"type": "free"})).json()["id"]


def request_for(task_id: str, *, extra: str = "", path: str = "/tasks/{}/events") -> bytes:
    path = path.format(task_id)
    return f"GET {path} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n{extra}\r\n".encode()


async def until(reader: asyncio.StreamReader, text: bytes) -> bytes:
    async with asyncio.timeout(30):
        return await reader.readuntil(text)


@pytest.mark.parametrize("path", PATHS)
async def test_no_asyncio_task_waits_for_a_reader(real: RealServer, path: str):
    task_id = await create(real)
    before = len(asyncio.all_tasks())
    connections = [await real.connect() for _ in range(20)]
    for reader, writer in connections:
        writer.write(request_for(task_id, path=path))
        await until(reader, b"event: position")
    assert real.hub.subscribers == 20
    await wait_until(lambda: len(asyncio.all_tasks()) <= before, description="what answered has ended")
    for _, writer in connections:
        writer.close()


async def test_a_request_sent_while_a_stream_lasts_is_answered_after_its_end(real: RealServer, worker: PlayedWorker):
    task_id = await create(real)
    reader, writer = await real.connect()
    writer.write(request_for(task_id))
    await until(reader, b"event: position")
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n")
    async with worker.run(task_id) as run:
        await run.finish(Status.COMPLETED, '{"result":null}')
    assert b"event: complete" in await until(reader, END_OF_CHUNKS)
    assert (await until(reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_two_requests_in_one_segment_are_both_answered_in_order(real: RealServer, worker: PlayedWorker):
    task_id = await create(real)
    async with worker.run(task_id) as run:
        await run.finish(Status.COMPLETED, '{"result":null}')
    reader, writer = await real.connect()
    writer.write(request_for(task_id) + b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n")
    assert b"event: complete" in await until(reader, END_OF_CHUNKS)
    assert (await until(reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_reader_with_another_request_behind_it_is_heard_leaving(
    real: RealServer, worker: PlayedWorker, caplog: pytest.LogCaptureFixture
):
    task_id = await create(real)
    reader, writer = await real.connect()
    writer.write(2 * request_for(task_id))
    await until(reader, b"event: position")
    assert real.hub.subscribers == 1
    writer.close()
    await wait_until(lambda: real.hub.subscribers == 0, description="the subscription is closed")
    async with worker.run(task_id) as run:
        await run.finish(Status.COMPLETED, '{"result":null}')
    assert "Traceback" not in caplog.text


async def test_a_further_request_of_which_half_has_come_is_answered(real: RealServer, worker: PlayedWorker):
    task_id = await create(real)
    reader, writer = await real.connect()
    writer.write(request_for(task_id) + b"GET /health/live HT")
    await until(reader, b"event: position")
    writer.write(b"TP/1.1\r\nhost: test\r\n\r\n")
    async with worker.run(task_id) as run:
        await run.finish(Status.COMPLETED, '{"result":null}')
    assert b"event: complete" in await until(reader, END_OF_CHUNKS)
    assert (await until(reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_reader_that_sent_a_large_body_is_heard_leaving(real: RealServer):
    task_id = await create(real)
    reader, writer = await real.connect()
    writer.write(request_for(task_id, extra="content-length: 70000\r\n") + b"x" * 70_000)
    await until(reader, b"event: position")
    assert real.hub.subscribers == 1
    writer.close()
    await wait_until(lambda: real.hub.subscribers == 0, description="the subscription is closed")


async def test_a_client_that_keeps_sending_while_a_stream_lasts_is_cut_off(real: RealServer):
    task_id = await create(real)
    reader, writer = await real.connect()
    writer.write(request_for(task_id))
    await until(reader, b"event: position")
    writer.write(b"x" * 100_000)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await until(reader, END_OF_CHUNKS)
    writer.close()
    await wait_until(lambda: real.hub.subscribers == 0, description="the subscription is closed")


async def test_a_request_whose_body_is_still_to_come_takes_the_plain_way(real: RealServer, worker: PlayedWorker):
    task_id = await create(real)
    reader, writer = await real.connect()
    writer.write(request_for(task_id, extra="content-length: 5\r\n"))
    await until(reader, b"event: position")
    writer.write(b"hello")
    async with worker.run(task_id) as run:
        await run.finish(Status.COMPLETED, '{"result":null}')
    assert b"event: complete" in await until(reader, END_OF_CHUNKS)
    writer.close()


async def test_a_reader_that_asked_for_close_gets_it_after_the_end(real: RealServer, worker: PlayedWorker):
    task_id = await create(real)
    reader, writer = await real.connect()
    writer.write(request_for(task_id, extra="connection: close\r\n"))
    async with worker.run(task_id) as run:
        await run.finish(Status.COMPLETED, '{"result":null}')
    async with asyncio.timeout(30):
        assert (await reader.read()).endswith(END_OF_CHUNKS)
    writer.close()


async def test_a_reader_that_asked_for_close_may_be_slow_to_take_the_end(
    real: RealServer, worker: PlayedWorker, caplog: pytest.LogCaptureFixture
):
    task_id = await create(real)
    reader, writer = await asyncio.open_connection("127.0.0.1", real.port, limit=1024)
    writer.write(request_for(task_id, extra="connection: close\r\n"))
    await wait_until(lambda: real.hub.subscribers == 1, description="the reader is there")
    async with worker.run(task_id) as run:
        for number in range(60):
            await run.emit(event("token", {"text": "x" * 100_000, "n": number}))
        await run.finish(Status.COMPLETED, '{"result":"' + "x" * 200_000 + '"}')
    async with asyncio.timeout(60):
        assert (await reader.read()).endswith(END_OF_CHUNKS)
    assert "Traceback" not in caplog.text
    writer.close()


@pytest.mark.parametrize("path", PATHS)
async def test_a_reader_that_takes_nothing_is_given_up_and_others_are_not(
    stalling: RealServer, worker: PlayedWorker, caplog: pytest.LogCaptureFixture, path: str
):
    task_id = await create(stalling)
    _, stuck = await asyncio.open_connection("127.0.0.1", stalling.port, limit=1024)
    stuck.write(request_for(task_id, path=path))
    await wait_until(lambda: stalling.hub.subscribers == 1, description="the stalled reader is there")
    async with worker.run(task_id) as run, reading(stalling.client, f"/tasks/{task_id}/events") as other:
        # It reads while events come: one that only reads afterwards may look stalled on a busy machine.
        taking = asyncio.create_task(other.take(101), name="the other reader")
        for number in range(100):
            await run.emit(event("token", {"text": "x" * 100_000, "n": number}))
        await run.flush()
        await taking
        await wait_until(lambda: stalling.hub.subscribers == 1, description="the stalled reader is gone", timeout=60)
        last = await run.finish(Status.COMPLETED, '{"result":null}')
        assert (await other.rest())[-1].id == str(last)
    assert "Traceback" not in caplog.text
    stuck.transport.abort()


async def test_a_reader_that_reads_slowly_is_not_given_up(stalling: RealServer, worker: PlayedWorker):
    task_id = await create(stalling)
    reader, slow = await asyncio.open_connection("127.0.0.1", stalling.port, limit=16_384)
    slow.write(request_for(task_id))
    await wait_until(lambda: stalling.hub.subscribers == 1, description="the slow reader is there")
    async with worker.run(task_id) as run:
        for number in range(60):
            await run.emit(event("token", {"text": "x" * 50_000, "n": number}))
        await run.finish(Status.COMPLETED, '{"result":null}')
    got = bytearray()
    async with asyncio.timeout(120):
        while not got.endswith(END_OF_CHUNKS):
            # Longer for all of it than a reader may take nothing for.
            got += await reader.read(50_000)
            await asyncio.sleep(STALL_SECONDS / 40)
    assert got.count(b"event: token") == 60
    slow.close()
