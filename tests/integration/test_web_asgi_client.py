"""The tests' own streaming client: what other tests lean on must be true of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.asgi_client import StreamingTransport
from tests.support.waiting import wait_until

Handler = Callable[[Receive, Send], Awaitable[None]]


def client_of(handler: Handler) -> tuple[httpx.AsyncClient, StreamingTransport]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler(receive, send)

    found: ASGIApp = app
    transport = StreamingTransport(found)
    return httpx.AsyncClient(transport=transport, base_url="http://test"), transport


def start(status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"x-kind", b"test")]}


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_each_chunk_arrives_while_the_application_runs() -> None:
    go_on = asyncio.Event()

    async def handler(receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"one"))
        await go_on.wait()
        await send(chunk(b"two", more=False))

    client, _ = client_of(handler)
    async with client, client.stream("GET", "/") as response:
        chunks = response.aiter_raw()
        assert (response.headers["x-kind"], await anext(chunks)) == ("test", b"one")
        go_on.set()
        assert [each async for each in chunks] == [b"two"]


async def test_closing_tells_the_application_and_waits_for_its_end() -> None:
    told: list[str] = []

    async def handler(receive: Receive, send: Send) -> None:
        await send(start())
        while (message := await receive())["type"] != "http.disconnect":
            told.append(message["type"])
        told.append("http.disconnect")

    client, transport = client_of(handler)
    async with client, client.stream("GET", "/"):
        pass
    assert (told, transport.running) == (["http.request", "http.disconnect"], set())


async def test_a_reader_that_does_not_read_holds_up_the_application_until_it_goes() -> None:
    sent: list[int] = []

    async def handler(receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(1000):
            await send(chunk(b"x"))
            sent.append(number)

    client, _ = client_of(handler)
    async with client:
        async with client.stream("GET", "/"):
            await wait_until(lambda: len(sent) == 8, description="the chunks that may wait are sent")
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(sent) == 8
        assert len(sent) == 1000


async def test_an_application_that_raises_before_its_answer_fails_the_request() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        raise RuntimeError("broken")

    client, transport = client_of(handler)
    async with client:
        with pytest.raises(AssertionError, match="no answer"):
            await client.get("/")
    assert [str(each) for each in transport.failures] == ["broken"]


async def test_an_application_that_ends_in_the_middle_of_a_body_breaks_the_connection() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"half"))

    client, _ = client_of(handler)
    async with client, client.stream("GET", "/") as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"half"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(chunks)


async def test_the_body_of_a_request_reaches_the_application() -> None:
    async def handler(receive: Receive, send: Send) -> None:
        message = await receive()
        await send(start(201))
        await send(chunk(message["body"], more=False))

    client, _ = client_of(handler)
    async with client:
        response = await client.post("/", content=b"hello")
    assert (response.status_code, response.content) == (201, b"hello")
