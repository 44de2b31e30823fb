"""The application under uvicorn, on a socket of this machine: for what only a real connection shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from server.app import create_app
from server.connection import StreamingConnection
from server.fanout import Hub
from server.listening import listen
from server.serving import DrainingServer
from server.settings import ServerSettings
from tests.support.http import http_client
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class RealServer:
    """A server of this process, and a client of it."""

    server: DrainingServer
    serving: asyncio.Task[None]
    client: httpx.AsyncClient
    port: int
    hub: Hub

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def real_server(
    redis_url: str, *, http: str | type[asyncio.Protocol] = StreamingConnection, **settings: Any
) -> AsyncGenerator[RealServer]:
    """Run a ready server; it is told to stop afterwards, unless the test has done so.

    `http` is uvicorn's option: its own protocols know no `hand_over`, so streams take the plain way there.
    """
    values: dict[str, Any] = {"redis_url": redis_url, "sweep_seconds": 0.2, "lease_seconds": 2.0, **settings}
    found = ServerSettings(**values)
    app = create_app(found)
    config = uvicorn.Config(app, http=http, ws="none", lifespan="on", log_config=None, access_log=False)
    server = DrainingServer(config, drain=app.state.drain, drain_seconds=found.drain_seconds)
    (listener,) = listen("127.0.0.1", 0, stall_seconds=found.stall_seconds)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    async with http_client(f"http://127.0.0.1:{port}", timeout=30) as client:

        async def is_ready() -> bool:
            return server.started and (await client.get("/health/ready")).status_code == 200

        await wait_until(is_ready, description="the server is ready")
        yield RealServer(server, serving, client, port, app.state.hub)
    server.should_exit = True
    async with asyncio.timeout(30):
        await serving
