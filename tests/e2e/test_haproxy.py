"""What the deployed HAProxy configuration promises, whatever the replicas serve.

The proxy is real; the replicas are scripted, because they have to break off at a chosen byte.
"""

import asyncio
import os
import re
import signal
import socket
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.e2e.haproxy import CONFIGURATION, HAPROXY, Proxy, run_haproxy
from tests.support.http import http_client

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed on this machine"),
]

EVENT_SOURCE = {"accept": "text/event-stream"}

Answer = Callable[["Replica", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Replica:
    """Answers health checks by `ready` and everything else by `answer`; keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.ready = True
        self.asked: list[str] = []
        #: How many events the test has received.
        self.heard = 0
        self.reader_left = asyncio.Event()
        self.address = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    async def stop(self) -> None:
        """Refuse connections and drop those there are, as a killed process does."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: ([0-9]+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            request_line = head.partition("\r\n")[0]
            if "/health/" in request_line:
                await respond(writer, "200 OK" if self.ready else "503 Service Unavailable")
            else:
                self.asked.append(request_line.removesuffix(" HTTP/1.1"))
                await self.answer(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def respond(writer: asyncio.StreamWriter, status: str, body: str = "{}") -> None:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    await writer.drain()


async def answers(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await respond(writer, "200 OK", replica.address)


async def breaks_off(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and close without a byte, as a killed process does."""


async def resets(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and reset, as the kernel does for what a killed process had not read."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def fails(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await respond(writer, "500 Internal Server Error")


async def refuses(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await respond(writer, "503 Service Unavailable", '"draining"')


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def write_event(writer: asyncio.StreamWriter) -> None:
    """Its data are the moment."""
    block = f"data: {time.monotonic()}\n\n".encode()
    writer.write(b"%x\r\n%s\r\n" % (len(block), block))


async def streams_and_waits(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Twenty events, then silence until the reader leaves."""
    writer.write(STREAM_HEAD)
    for _ in range(20):
        write_event(writer)
    with suppress(ConnectionError):
        await reader.read()
    replica.reader_left.set()


async def streams_what_was_heard(replica: Replica, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Twenty events, each once the one before was heard, then silence until the reader leaves."""
    writer.write(STREAM_HEAD)
    for number in range(20):
        while replica.heard < number:  # noqa: ASYNC110 - the test counts
            await asyncio.sleep(0.001)
        write_event(writer)
    with suppress(ConnectionError):
        await reader.read()


async def times_of_passing(response: httpx.Response, replicas: list[Replica]) -> str:
    """Hear twenty events, and tell the replicas of each; how long they took, as text."""
    delays: list[float] = []
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            delays.append(time.monotonic() - float(line[6:]))
            for replica in replicas:
                replica.heard = len(delays)
        if len(delays) == 20:
            break
    return f"an event passes in {median(delays) * 1000:.1f} ms (median), {max(delays) * 1000:.1f} ms at most"


@asynccontextmanager
async def proxied(directory: Path, *kinds: Answer) -> AsyncGenerator[tuple[Proxy, list[Replica]]]:
    async with AsyncExitStack() as stack:
        replicas = [Replica(kind) for kind in kinds]
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.stop)
        proxy = await stack.enter_async_context(run_haproxy([r.address for r in replicas], directory))
        yield proxy, replicas


@asynccontextmanager
async def client(proxy: Proxy) -> AsyncGenerator[httpx.AsyncClient]:
    async with http_client(proxy.url, timeout=40) as http:
        yield http


async def open_stream(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET /events HTTP/1.1\r\nhost: reprise\r\naccept: text/event-stream\r\n\r\n")
    return reader, writer


def asked(replicas: list[Replica]) -> int:
    return sum(len(replica.asked) for replica in replicas)


async def test_event_source_without_any_replica_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with proxied(tmp_path, answers) as (proxy, replicas), client(proxy) as http:
        await replicas[0].stop()
        response = await http.get("/events", headers={**EVENT_SOURCE, "origin": "https://page.example"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["access-control-allow-origin"] == "https://page.example"
    retry = re.match(r"retry: ([0-9]+)\n", response.text)
    assert retry is not None, response.text
    assert 1000 <= int(retry[1]) <= 4000


async def test_event_source_is_served_by_another_replica_when_the_first_breaks_off(tmp_path: Path) -> None:
    async with proxied(tmp_path, breaks_off, answers) as (proxy, replicas), client(proxy) as http:
        for _ in range(6):
            response = await http.get("/events", headers=EVENT_SOURCE)
            assert response.text == replicas[1].address
    assert replicas[0].asked, "the replica that breaks off was never tried, so nothing was shown"


async def test_event_source_is_served_when_two_of_three_replicas_have_just_died(tmp_path: Path) -> None:
    kinds = (streams_and_waits, streams_and_waits, streams_and_waits)
    async with proxied(tmp_path, *kinds) as (proxy, replicas), client(proxy) as http:
        held = [await open_stream(proxy) for _ in range(6)]
        for reader, _ in held:
            await reader.readuntil(b"\r\n\r\n")
        await replicas[0].stop()
        await replicas[1].stop()
        # The living one has the most connections, so the balancer turns to the dead ones first.
        replicas[2].answer = answers
        for _ in range(3):
            assert (await http.get("/events", headers=EVENT_SOURCE)).text == replicas[2].address
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize("ending", [breaks_off, resets])
async def test_event_source_is_answered_200_when_every_replica_goes_away(tmp_path: Path, ending: Answer) -> None:
    async with proxied(tmp_path, ending, ending) as (proxy, _), client(proxy) as http:
        response = await http.get("/events", headers=EVENT_SOURCE)
    assert (response.status_code, response.text[:7]) == (200, "retry: ")


async def test_event_source_is_answered_200_when_a_replica_fails(tmp_path: Path) -> None:
    async with proxied(tmp_path, fails) as (proxy, _), client(proxy) as http:
        response = await http.get("/events", headers=EVENT_SOURCE)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")


async def test_pages_of_other_origins_may_read_what_the_proxy_says_and_not_what_a_replica_says(tmp_path: Path) -> None:
    headers = {**EVENT_SOURCE, "origin": "https://page.example"}
    async with proxied(tmp_path, fails) as (proxy, replicas), client(proxy) as http:
        assert "access-control-allow-origin" not in (await http.get("/events", headers=headers)).headers
        await replicas[0].stop()
        found = (await http.get("/events", headers=headers)).headers
        assert found["access-control-allow-origin"] == "https://page.example"
        assert "access-control-allow-origin" not in (await http.get("/events", headers=EVENT_SOURCE)).headers


async def test_large_body_passes_the_proxy(tmp_path: Path) -> None:
    async with proxied(tmp_path, answers) as (proxy, replicas), client(proxy) as http:
        assert (await http.post("/streams/a/events", content=b"x" * 1_000_000)).text == replicas[0].address


async def test_failure_of_a_replica_is_passed_on_to_everyone_but_an_event_source(tmp_path: Path) -> None:
    async with proxied(tmp_path, fails) as (proxy, _), client(proxy) as http:
        assert (await http.get("/tasks")).status_code == 500
        assert (await http.post("/tasks/1/execute", headers=EVENT_SOURCE)).status_code == 500


async def test_post_that_broke_off_is_not_repeated(tmp_path: Path) -> None:
    async with proxied(tmp_path, breaks_off, breaks_off) as (proxy, replicas), client(proxy) as http:
        response = await http.post("/tasks", json={})
    assert response.status_code == 502
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 502
    assert asked(replicas) == 1


async def test_post_with_an_idempotency_key_that_broke_off_is_repeated_elsewhere(tmp_path: Path) -> None:
    async with proxied(tmp_path, breaks_off, answers) as (proxy, replicas), client(proxy) as http:
        for n in range(6):
            response = await http.post("/tasks", json={}, headers={"idempotency-key": str(n)})
            assert response.text == replicas[1].address
    assert replicas[0].asked, "the replica that breaks off was never tried, so nothing was shown"


async def test_post_whose_replica_is_gone_is_served_by_another(tmp_path: Path) -> None:
    async with proxied(tmp_path, answers, answers, answers) as (proxy, replicas), client(proxy) as http:
        await replicas[0].stop()
        responses = await asyncio.gather(*(http.post("/tasks", json={}) for _ in range(12)))
    assert [response.status_code for response in responses] == [200] * 12
    assert asked(replicas) == 12


async def test_request_that_a_draining_replica_refuses_is_served_by_another(tmp_path: Path) -> None:
    async with proxied(tmp_path, refuses, answers) as (proxy, replicas), client(proxy) as http:
        for _ in range(6):
            assert (await http.get("/tasks")).text == replicas[1].address
    assert replicas[0].asked, "the replica that refuses was never tried, so nothing was shown"


async def test_refusal_of_every_replica_arrives_as_it_was(tmp_path: Path) -> None:
    async with proxied(tmp_path, refuses, refuses) as (proxy, _), client(proxy) as http:
        response = await http.get("/tasks")
    assert (response.status_code, response.text) == (503, '"draining"')


async def test_post_without_any_replica_is_refused_with_a_problem_document(tmp_path: Path) -> None:
    async with proxied(tmp_path, answers) as (proxy, replicas), client(proxy) as http:
        await replicas[0].stop()
        response = await http.post("/tasks", json={})
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"


async def test_replica_that_is_not_ready_keeps_its_streams_and_gets_no_new_requests(tmp_path: Path) -> None:
    async with proxied(tmp_path, streams_and_waits, answers) as (proxy, replicas), client(proxy) as http:
        draining, ready = replicas
        streams: list[asyncio.StreamWriter] = []
        while not draining.asked:
            reader, writer = await open_stream(proxy)
            await reader.readuntil(b"\r\n\r\n")
            streams.append(writer)
        draining.ready = False
        async with asyncio.timeout(60):
            while b"Server events/replica1 is DOWN" not in proxy.log.read_bytes():
                await http.get("/health/live")
        assert (await http.get("/events", headers=EVENT_SOURCE)).text == ready.address
        assert not draining.reader_left.is_set()
        for writer in streams:
            writer.close()


async def test_event_passes_the_proxy_without_waiting_for_the_next_one(tmp_path: Path) -> None:
    async with (
        proxied(tmp_path, streams_what_was_heard) as (proxy, replicas),
        client(proxy) as http,
        http.stream("GET", "/events", headers=EVENT_SOURCE) as response,
    ):
        # The second one waits until the first was heard, and so on.
        print(f"\nHAProxy: {await times_of_passing(response, replicas)}")  # noqa: T201 - what it is run by hand for


def test_no_event_waits_for_the_kernel_to_fill_a_packet_of_any_backend() -> None:
    """Without the option half of the events wait about 100 ms, which only a clock would show."""
    sections = re.split(r"^(?=[a-z])", CONFIGURATION.read_text(), flags=re.MULTILINE)
    backends = [each for each in sections if each.startswith("backend ")]
    assert len(backends) == 2
    assert all(re.search(r"^ +option http-no-delay$", each, re.MULTILINE) for each in backends)


async def test_replica_learns_at_once_that_its_reader_left(tmp_path: Path) -> None:
    async with proxied(tmp_path, streams_and_waits) as (proxy, replicas):
        reader, writer = await open_stream(proxy)
        for _ in range(20):
            await reader.readuntil(b"data: ")
        writer.close()
        await asyncio.wait_for(replicas[0].reader_left.wait(), 60)


async def test_the_proxy_says_that_it_works_while_no_replica_does(tmp_path: Path) -> None:
    async with proxied(tmp_path, answers) as (proxy, replicas), client(proxy) as http:
        await replicas[0].stop()
        assert (await http.get("/health/proxy")).status_code == 200
        assert (await http.get("/health/ready")).status_code == 503
    assert asked(replicas) == 0


async def test_streams_go_on_after_a_soft_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_SOFT_STOP", "60s")
    async with proxied(tmp_path, streams_what_was_heard) as (proxy, (replica,)):
        reader, writer = await open_stream(proxy)
        await reader.readuntil(b"data: ")
        os.kill(proxy.pid, signal.SIGUSR1)
        for heard in range(1, 20):
            replica.heard = heard
            await reader.readuntil(b"data: ")
        writer.close()


async def test_a_request_whose_head_comes_too_late_is_let_go_without_an_answer(tmp_path: Path) -> None:
    """A browser closes an EventSource for good on a 408, and comes back after an end without a byte."""
    async with proxied(tmp_path, answers) as (proxy, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"GET /events HTTP/1.1\r\naccept: text/event-stream\r\n")
        assert await reader.read() == b""
        writer.close()


async def test_a_connection_whose_request_never_ends_is_ended(tmp_path: Path) -> None:
    async with proxied(tmp_path, answers) as (proxy, _):
        await asyncio.gather(*(until_let_go(proxy.port, begun) for begun in NEVER_ENDING))


#: Nothing at all, half a head, half a body.
NEVER_ENDING = (
    b"",
    b"GET /tasks HTTP/1.1\r\nhost: test\r\n",
    b"POST /tasks HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
)


async def until_let_go(port: int, begun: bytes) -> None:
    """Send this and no more, until the other side has closed: long before the minute after which all would."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    async with asyncio.timeout(40):
        await reader.read()
    writer.close()
