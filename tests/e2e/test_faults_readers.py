"""Readers that go, and servers that are told to stop: nothing is left running, nothing breaks off."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.product import Product, Server, product
from tests.e2e.reader import Reader, assert_whole, following
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

READERS = 200


async def test_nothing_is_left_running_for_200_readers_that_vanish_and_their_task_goes_on(tmp_path: Path, enough: Path):
    async with product(tmp_path) as found:
        server = found.servers[0]
        task_id = await found.start_task("emit_many", count=50, interval_ms=20, until=str(enough))
        path = f"/tasks/{task_id}/events"
        await follow_and_vanish(server, path, count=1)  # what a first reader makes the server open for good
        await until_left(found, task_id)
        before = server.open_files
        streams = await follow_and_vanish(server, path, count=READERS, expected_files=before + READERS)
        await until_left(found, task_id)
        await wait_until(lambda: server.open_files <= before, description=f"{before} files are open")
        assert streams == READERS
        assert (await found.task(task_id))["status"] == "running"
        enough.touch()
        reader = Reader(server.url, path)
        await reader.follow()
        assert_whole(reader.events, emitted=found.emitted_in_all(task_id))
        assert (await found.task(task_id))["status"] == "completed"


async def follow_and_vanish(server: Server, path: str, *, count: int, expected_files: int = 0) -> int:
    """Open streams, wait until each has an event, and break them off as a dying machine would; how many there were."""
    opened = await asyncio.gather(*(open_stream(server, path) for _ in range(count)))
    for reader, _ in opened:
        async with asyncio.timeout(60):
            await reader.readuntil(b"event: number")
    assert server.open_files >= expected_files
    for _, writer in opened:
        writer.transport.abort()
    return len(opened)


async def open_stream(server: Server, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: reprise\r\naccept: text/event-stream\r\n\r\n".encode())
    return reader, writer


async def until_left(found: Product, task_id: str) -> None:
    """Wait until the server holds no connection of a reader any more, and nobody watches the stream."""
    await wait_until(lambda: clients(found.servers[0].port) == 0, description="no connection is held")
    await wait_until(lambda: watched(found, task_id) == 0, description="nobody watches the stream")


def clients(port: int) -> int:
    """How many connections to the port some process of this machine holds at that end, by the kernel's table."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Columns: 1 local address, 3 state (0A listens), 9 inode (0: no process has it any more).
    return sum(row[1].endswith(f":{port:04X}") and row[3] != "0A" and row[9] != "0" for row in rows)


def watched(found: Product, task_id: str) -> int:
    """How many servers listen for the stream's doorbell."""
    answer = found.redis.command("PUBSUB", "SHARDNUMSUB", f"reprise:{{tasks.{task_id}}}:bell")
    assert isinstance(answer, list)
    return int(answer[1])  # pyright: ignore[reportUnknownArgumentType]


async def test_a_server_told_to_stop_ends_every_stream_in_order_and_exits_with_0(tmp_path: Path):
    async with product(tmp_path, settings={"REPRISE_DRAIN_SECONDS": "30"}) as found:
        server = found.servers[0]
        running = await found.start_task("emit_many", count=1_000_000)  # it never falls silent
        paths = [f"/tasks/{running}/events", "/tasks/stream", "/stream/system"]
        streams = [await open_stream(server, path) for path in paths]
        for reader, _ in streams:
            async with asyncio.timeout(60):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
                await reader.readuntil(b": reprise\n")
        reading = asyncio.gather(*(body_of(reader) for reader, _ in streams))
        assert await server.stop() == 0
        bodies = await reading
        for body in bodies:
            last = body.rstrip("\n").rpartition("\n\n")[2]
            assert last.startswith("retry: "), body[-300:]
        for _, writer in streams:
            writer.close()
        assert "draining" in server.text
        assert "the drain took longer" not in server.text
        assert "error" not in server.text.lower()


async def body_of(reader: asyncio.StreamReader) -> str:
    """The rest of a chunked body, which must end as HTTP/1.1 says. A chunk that was begun may go first."""
    raw = bytearray()
    async with asyncio.timeout(60):
        while not raw.endswith(b"0\r\n\r\n"):
            part = await reader.read(2**20)
            assert part, f"The body broke off: {bytes(raw[-200:])!r}"
            raw += part
    lines = raw.decode().split("\r\n")
    return "".join(line for line in lines if line.strip("0123456789abcdef"))


async def test_a_stream_of_a_stopping_server_is_continued_by_the_next_one(tmp_path: Path):
    async with product(tmp_path) as found:
        task_id = await found.start_task("emit_many", count=400, interval_ms=10)
        reader = Reader(found.url, f"/tasks/{task_id}/events")
        async with following(reader) as followed:
            await reader.has(100)
            assert await found.servers[0].stop() == 0
            await found.servers[0].start()
            await followed
        assert_whole(reader.events, emitted=400)
