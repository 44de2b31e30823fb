"""Resumable events as tutorials show them: one blocking XREAD for each client, EventSourceResponse, dict events.

Written as well as the pattern allows: the client resumes from Last-Event-ID, a new one begins at the start so that
nothing is missed, and the pool has a connection for everybody. Run by uvicorn with uvloop and httptools.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any, Final

import redis.asyncio
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

_BLOCK_MS: Final = 5000
_CONNECTIONS: Final = 12_000
#: Thousands dial at once after a restart; with the default of 5 s many of them would fail.
_CONNECT_SECONDS: Final = 60

client: Any = redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
    os.environ["TUTORIAL_REDIS_URL"],
    decode_responses=True,
    max_connections=_CONNECTIONS,
    socket_timeout=None,
    socket_connect_timeout=_CONNECT_SECONDS,
)


async def events(request: Request) -> EventSourceResponse:
    stream: str = request.path_params["stream"]
    last_id = request.headers.get("last-event-id", "0")

    async def generate() -> AsyncGenerator[dict[str, str]]:
        nonlocal last_id
        while True:
            for _, entries in await client.xread({stream: last_id}, block=_BLOCK_MS):
                for last_id, fields in entries:
                    yield {"id": last_id, "event": fields["event"], "data": fields["data"]}

    return EventSourceResponse(generate())


app = Starlette(routes=[Route("/events/{stream}", events)])
