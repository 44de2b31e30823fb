"""A stop as real connections see it, by both ways out of the server: streams, requests under way, idle connections."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from server import serving
from server.connection import StreamingConnection
from server.fanout import farewell
from tests.support.log_hand import Hand, drafts
from tests.support.played_worker import PlayedWorker
from tests.support.real_server import RealServer, real_server
from tests.support.waiting import wait_until

END_OF_CHUNKS = b"0\r\n\r\n"
BODY = b'{"type": "free"}'


@pytest.fixture(params=[StreamingConnection, "httptools", "h11"], ids=["handed over", "httptools", "h11"])
def http(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def slow_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain takes all of its time, however few the readers are; who hurries cuts nobody off."""
    monkeypatch.setattr(farewell, "_AT_LEAST_PER_SECOND", 0.01)
    monkeypatch.setattr(serving, "_URGENT_SECONDS", 30.0)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n".encode()


def post_head() -> bytes:
    head = "POST /tasks HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(BODY)}\r\n\r\n".encode()


async def answer_of(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Head and body of an answer with a length."""
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return head, await reader.readexactly(length)


async def until_draining(real: RealServer) -> None:
    real.server.should_exit = True

    async def is_red() -> bool:
        return (await real.client.get("/health/ready")).status_code == 503

    await wait_until(is_red, description="readiness is red")


@asynccontextmanager
async def draining_slowly(redis_url: str, http: Any) -> AsyncGenerator[RealServer]:
    """A server in the middle of a drain, which lasts for as long as this with a slow farewell."""
    async with real_server(redis_url, http=http, drain_seconds=3600) as real:
        connections = [await real.connect() for _ in range(40)]
        for reader, writer in connections:
            writer.write(get("/stream/system"))
            await reader.readuntil(b"event: position")
        yield real
        real.server._signals = 2
        async with asyncio.timeout(30):
            await real.serving
        for _, writer in connections:
            writer.close()


@pytest.mark.usefixtures("slow_farewell")
async def test_streams_end_one_after_the_other_each_with_its_connection_and_those_that_wait_go_on(
    redis_url: str, hand: Hand, http: Any, caplog: Any
):
    async with real_server(redis_url, http=http, drain_seconds=3600) as real:
        connections = [await real.connect() for _ in range(20)]
        for reader, writer in connections:
            writer.write(get("/stream/system"))
            await reader.readuntil(b"event: position")
        ended: list[int] = []

        async def read(number: int) -> bytes:
            body = await connections[number][0].read()
            ended.append(number)
            return body

        caplog.clear()
        real.server.should_exit = True
        reading = [asyncio.create_task(read(number), name="read") for number in range(20)]
        await wait_until(lambda: ended, description="one has ended")
        await hand.publish("system", drafts("told while they wait"), token="1")
        real.server._signals = 2  # enough has been seen
        async with asyncio.timeout(30):
            bodies = await asyncio.gather(*reading)
            await real.serving
        assert all(body.endswith(END_OF_CHUNKS) for body in bodies)
        assert any(b"told while they wait" in body for body in bodies), "all have ended at once"
        assert b"told while they wait" not in bodies[ended[0]]
        retries = {body.rpartition(b"retry: ")[2].partition(b"\n")[0] for body in bodies}
        assert len(retries) > 10, retries
        for _, writer in connections:
            writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("slow_farewell")
async def test_while_it_drains_a_server_answers_and_each_answer_is_the_last_of_its_connection(
    redis_url: str, worker: PlayedWorker, http: Any
):
    async with draining_slowly(redis_url, http) as real:
        idle, idle_writer = await real.connect()
        idle_writer.write(b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n")
        assert "connection: close" not in (await answer_of(idle))[0]
        await until_draining(real)
        idle_writer.write(get("/stream/system"))
        head, body = await answer_of(idle)
        assert head.startswith("http/1.1 200 ")
        assert "connection: close" in head
        assert body.startswith(b"retry: ")
        assert await idle.read() == b""
        idle_writer.close()
        # What is no stream is served to the last.
        reader, writer = await real.connect()
        writer.write(post_head() + BODY)
        head, _ = await answer_of(reader)
        assert head.startswith("http/1.1 202 ")
        assert "connection: close" in head
        writer.close()


async def test_a_request_that_is_under_way_when_the_server_is_told_to_stop_is_answered(
    redis_url: str, worker: PlayedWorker, http: Any, caplog: Any
):
    async with real_server(redis_url, http=http, drain_seconds=10) as real:
        reader, writer = await real.connect()
        writer.write(post_head() + BODY[:5])
        await wait_until(lambda: real.server.server_state.tasks, description="the request has begun")
        caplog.clear()
        real.server.should_exit = True
        await wait_until(lambda: not any(each.is_serving() for each in real.server.servers), description="it closes")
        writer.write(BODY[5:])
        head, _ = await answer_of(reader)
        assert head.startswith("http/1.1 202 ")
        async with asyncio.timeout(30):
            await real.serving
        writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_request_that_does_not_come_to_an_end_is_cut_off_in_time_and_in_one_sentence(
    redis_url: str, http: Any, caplog: Any
):
    async with real_server(redis_url, http=http, drain_seconds=0.3) as real:
        reader, writer = await real.connect()
        writer.write(post_head() + BODY[:5])
        await wait_until(lambda: real.server.server_state.tasks, description="the request has begun")
        caplog.clear()
        real.server.should_exit = True
        async with asyncio.timeout(30):
            await real.serving
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["1 connection(s) did not come to an end in time and are cut off"]


@pytest.mark.usefixtures("slow_farewell")  # few readers would not wait for the second signal
async def test_a_second_signal_ends_every_stream_at_once_and_cleanly(redis_url: str, http: Any):
    async with real_server(redis_url, http=http, drain_seconds=3600) as real:
        connections = [await real.connect() for _ in range(30)]
        for reader, writer in connections:
            writer.write(get("/stream/system"))
            await reader.readuntil(b"event: position")
        signal.raise_signal(signal.SIGTERM)
        await until_draining(real)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            bodies = [await reader.read() for reader, _ in connections]
            await real.serving
        assert all(body.endswith(END_OF_CHUNKS) and b"retry: " in body for body in bodies)
        for _, writer in connections:
            writer.close()
