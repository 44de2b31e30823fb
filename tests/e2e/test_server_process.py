"""One `reprise server` as its supervisor sees it: start, signals, exit codes."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.dev_run import REPRISE, environment, reprise
from tests.support.http import http_client
from tests.support.ports import unused_port
from tests.support.redis_server import RedisServer

POST_WITHOUT_ITS_BODY = b"POST /tasks HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\n"


@asynccontextmanager
async def server(
    folder: Path, *options: str, settings: dict[str, str]
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str]]:
    """A server on a free port that serves; its process and URL."""
    process = await asyncio.create_subprocess_exec(
        *(REPRISE, "server", "--port", "0", *options),
        cwd=folder,
        env=environment({"REPRISE_LOG_FORMAT": "json", **settings}),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process, await address_of(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Where it says that it serves."""
    assert process.stderr
    async with asyncio.timeout(90):
        async for line in process.stderr:
            if found := re.search(r"serving on (http://[^\"]+)", line.decode()):
                return found[1]
    raise AssertionError("It ended without serving.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_wish_to_stop_ends_open_streams_and_exits_with_0(
    number: signal.Signals, tmp_path: Path, redis_url: str
):
    settings = {"REPRISE_REDIS_URL": redis_url, "REPRISE_DRAIN_SECONDS": "2"}
    async with (
        server(tmp_path, settings=settings) as (process, url),
        http_client(url, timeout=30) as http,
    ):
        headers = {"accept": "text/event-stream"}
        async with http.stream("GET", "/stream/system", headers=headers) as response:
            assert response.status_code == 200
            process.send_signal(number)
            # A clean end of the body: httpx raises for any other.
            body = "".join([text async for text in response.aiter_text()])
        assert "retry:" in body
        async with asyncio.timeout(60):
            assert await process.wait() == 0
        assert process.stderr
        said = (await process.stderr.read()).decode()
    assert '"level": "error"' not in said
    assert "Traceback" not in said


async def test_a_second_wish_to_stop_skips_every_wait_and_exits_with_0(tmp_path: Path, redis_url: str):
    # Either alone would outlive this test: so many readers leave over more than a minute, and the request never ends.
    readers = 800
    settings = {"REPRISE_REDIS_URL": redis_url, "REPRISE_DRAIN_SECONDS": "3600"}
    async with AsyncExitStack() as stack:
        process, url = await stack.enter_async_context(server(tmp_path, settings=settings))
        port = int(url.rpartition(":")[2])
        streams = [await follow_system(port, stack) for _ in range(readers)]
        posting = await stack.enter_async_context(connected(port))
        posting[1].write(POST_WITHOUT_ITS_BODY)
        process.terminate()
        await until_said(process, "draining")
        process.terminate()
        async with asyncio.timeout(90):
            bodies = [await reader.read() for reader in streams]
            assert await process.wait() == 0
        assert [body for body in bodies if b"retry: " not in body or not body.endswith(b"0\r\n\r\n")] == []


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def follow_system(port: int, stack: AsyncExitStack) -> asyncio.StreamReader:
    """A reader that was let in: one that comes before Redis has answered is sent away, and comes again."""
    while True:
        reader, writer = await stack.enter_async_context(connected(port))
        writer.write(b"GET /stream/system HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n")
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"event: ")  # its position, or that a server has started
            return reader


async def test_a_third_wish_to_stop_ends_the_process_where_it_stands(tmp_path: Path, redis_url: str):
    settings = {"REPRISE_REDIS_URL": redis_url, "REPRISE_DRAIN_SECONDS": "3600"}
    async with server(tmp_path, settings=settings) as (process, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(POST_WITHOUT_ITS_BODY)
        process.terminate()
        await until_said(process, "draining")
        process.terminate()
        process.send_signal(signal.SIGINT)  # another one: two of a kind may arrive as one
        async with asyncio.timeout(60):
            assert await process.wait() == 1  # a stop in order, however late, would exit with 0
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_a_server_that_is_told_to_stop_while_redis_is_frozen_ends_without_it_and_says_no_error(tmp_path: Path):
    with RedisServer() as redis:
        settings = {"REPRISE_REDIS_URL": redis.url, "REPRISE_DRAIN_SECONDS": "1"}
        async with (
            server(tmp_path, settings=settings) as (process, url),
            http_client(url, timeout=30) as http,
        ):
            async with http.stream("GET", "/stream/system", headers={"accept": "text/event-stream"}) as stream:
                chunks = stream.aiter_text()
                assert "retry: " in await anext(chunks)
                redis.pause()
                asking = asyncio.create_task(http.get("/tasks"), name="ask a frozen Redis")
                process.terminate()
                told_at = monotonic()
                body = "".join([text async for text in chunks])
            assert "retry: " in body
            async with asyncio.timeout(60):
                assert await process.wait() == 0
            # docs/settings.md says 9 to who kills late processes.
            print(f"\nGone {monotonic() - told_at:.1f} s after a drain of 1 s began")  # noqa: T201 - by hand
            await asyncio.gather(asking, return_exceptions=True)
            assert process.stderr
            said = (await process.stderr.read()).decode()
        redis.resume()
    assert '"level": "error"' not in said
    assert "Traceback" not in said


async def until_said(process: asyncio.subprocess.Process, words: str) -> None:
    assert process.stderr
    async with asyncio.timeout(60):
        async for line in process.stderr:
            if words in line.decode():
                return


async def test_a_server_starts_without_redis_and_says_so(tmp_path: Path):
    settings = {"REPRISE_REDIS_URL": f"redis://127.0.0.1:{unused_port()}/0"}
    async with server(tmp_path, settings=settings) as (process, url):
        async with http_client(url, timeout=30) as http:
            assert (await http.get("/health/live")).status_code == 200
            assert (await http.get("/health/ready")).status_code == 503
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "203.0.113.7"), ("203.0.113.7", "--host")),
        (("--host", "a..b"), ("'a..b'", "--host")),
        (("--port", "70000"), ("--port is '70000'", "65535")),
        (("--port", "abc"), ("--port is 'abc'", "integer")),
        (("--port", ""), ("--port is ''", "integer")),
    ],
)
async def test_what_cannot_be_listened_on_is_one_sentence(
    options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
):
    code, out, errors = await reprise(tmp_path, "server", *options)
    assert code in {1, 2}
    assert (out, errors.count("\n")) == ("", 1)
    assert [word for word in words if word not in errors] == []


async def test_a_taken_port_is_one_sentence(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, _, errors = await reprise(tmp_path, "server", "--port", str(port))
    assert code == 1
    assert errors.startswith(f"reprise: Port {port} on 127.0.0.1 is taken by another program.")


async def test_a_redis_url_that_does_not_work_stops_the_start(tmp_path: Path):
    settings = {"REPRISE_REDIS_URL": "redis://:hush@127.0.0.1:1/zz"}
    code, out, errors = await reprise(tmp_path, "server", settings=settings)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("reprise: REPRISE_REDIS_URL ")
    assert "hush" not in errors


async def test_the_version_can_be_asked(tmp_path: Path):
    assert await reprise(tmp_path, "--version") == (0, f"reprise {version('reprise')}\n", "")
