"""An HTTP client that runs an ASGI application beside the test and streams: for what httpx's own transport cannot do.

Each chunk the application sends reaches the test at once, at most a few wait (so a reader that stops reading stops the
application's `send`), and closing a response tells the application `http.disconnect` and waits for its end. `running`
enters the lifespan and ends it. What the application raises is kept in `failures`, for the test to look at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import httpx
from starlette.types import ASGIApp, Message

#: A reader that does not read holds up the application after so many chunks, as a full socket does.
_WAITING_CHUNKS = 8
_PATIENCE_SECONDS = 30.0


class StreamingTransport(httpx.AsyncBaseTransport):
    """Hands requests to the application, each in an asyncio task of its own."""

    def __init__(self, app: ASGIApp, state: dict[str, Any] | None = None) -> None:
        self._app = app
        self._state = state if state is not None else {}
        #: What the application raised, oldest first.
        self.failures: list[BaseException] = []
        #: Requests that the application has not finished.
        self.running: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(await request.aread(), failures=self.failures)
        task = asyncio.create_task(
            exchange.run(self._app, _scope(request, self._state)), name=f"app: {request.url.path}"
        )
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        body = _Body(exchange, task)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS * 2):
                start = await exchange.started
        except BaseException:
            await body.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=body)


class _Exchange:
    """One request and its answer, seen from the application."""

    def __init__(self, body: bytes, *, failures: list[BaseException]) -> None:
        self._incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._failures = failures
        self.disconnected = asyncio.Event()
        self.started: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        #: Chunks of the body; None is its end.
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING_CHUNKS)

    async def run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 (whatever a server would log)
            self._failures.append(error)
        finally:
            if not self.started.done():
                self.started.set_exception(AssertionError(f"{scope['path']} got no answer"))
                self.started.exception()

    async def _receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop(0)
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self.disconnected.is_set():
            return  # as uvicorn does: what is sent to a reader that left goes nowhere
        if message["type"] == "http.response.start":
            self.started.set_result(message)
            return
        if message.get("body"):
            await self._put(message["body"])
        if not message.get("more_body", False):
            await self._put(None)

    async def _put(self, chunk: bytes | None) -> None:
        """Wait for room like a full socket, which a reader's leaving makes room in."""
        putting = asyncio.ensure_future(self.chunks.put(chunk))
        leaving = asyncio.ensure_future(self.disconnected.wait())
        try:
            await asyncio.wait({putting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            leaving.cancel()


class _Body(httpx.AsyncByteStream):
    """The body as it comes; closing it is the reader leaving."""

    def __init__(self, exchange: _Exchange, task: asyncio.Task[None]) -> None:
        self._exchange = exchange
        self._task = task

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            getting = asyncio.ensure_future(self._exchange.chunks.get())
            try:
                await asyncio.wait({getting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done() and self._exchange.chunks.empty():
                    raise httpx.RemoteProtocolError("The application ended in the middle of the body.")
                chunk = await getting
            finally:
                getting.cancel()
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        self._exchange.disconnected.set()
        done, _ = await asyncio.wait({self._task}, timeout=_PATIENCE_SECONDS)
        if not done:
            self._task.cancel()
            raise AssertionError("The application goes on after its reader left.")


def _scope(request: httpx.Request, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "state": dict(state),
    }


class AppClient(httpx.AsyncClient):
    """An httpx client of a running application."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self.transport = StreamingTransport(app, state)
        # httpx takes any Accept for granted; a test says what it accepts.
        super().__init__(transport=self.transport, base_url="http://test", headers={"accept": "*/*"}, timeout=None)

    @property
    def failures(self) -> list[BaseException]:
        return self.transport.failures


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncGenerator[AppClient]:
    """Run the application's lifespan, and a client of it within."""
    async with _Lifespan(app) as state, AppClient(app, state) as client:
        yield client


class _Lifespan:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> dict[str, Any]:
        self._task = asyncio.create_task(self._run(), name="lifespan")
        await self._step("startup")
        return self._state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._step("shutdown")
        if self._task:
            await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}
        await self._app(scope, self._requests.get, self._answers.put)

    async def _step(self, name: str) -> None:
        await self._requests.put({"type": f"lifespan.{name}"})
        async with asyncio.timeout(_PATIENCE_SECONDS * 2):
            answer = await self._answers.get()
        assert answer["type"] == f"lifespan.{name}.complete", answer
