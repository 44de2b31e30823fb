"""A server's application in the test's own event loop, on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette

from server.app import create_app
from server.fanout import Hub
from server.settings import ServerSettings
from tests.support.asgi_client import AppClient, running
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Web:
    """The application and a client of it."""

    app: Starlette
    client: AppClient

    @property
    def hub(self) -> Hub:
        return self.app.state.hub

    async def create(self, type: str = "free", **members: Any) -> dict[str, Any]:
        """A task, created over HTTP."""
        response = await self.client.post("/tasks", json={"type": type, **members})
        assert response.status_code in {201, 202}, response.text
        return response.json()

    async def until_ready(self) -> None:
        async def is_ready() -> bool:
            return (await self.client.get("/health/ready")).status_code == 200

        await wait_until(is_ready, description="the server is ready")


@asynccontextmanager
async def serving(redis_url: str, **settings: Any) -> AsyncGenerator[Web]:
    """Run the application; `settings` are fields of `ServerSettings`. No request may have failed unexpectedly."""
    values: dict[str, Any] = {"redis_url": redis_url, "sweep_seconds": 0.2, "lease_seconds": 2.0, **settings}
    app = create_app(ServerSettings(**values))
    async with running(app) as client:
        web = Web(app, client)
        yield web
        assert not client.failures, client.failures
