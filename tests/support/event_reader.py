"""A reader of an event stream, which decodes with httpx-sse: a decoder we did not write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent

_PATIENCE_SECONDS = 30.0
EVENT_STREAM = {"accept": "text/event-stream"}


class EventReader:
    """An open response and what has come of it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._events: AsyncIterator[ServerSentEvent] = EventSource(response).aiter_sse()
        #: Reconnection times in the order of arrival.
        self.retries: list[int] = []

    async def next(self) -> ServerSentEvent:
        """The next event with data: comments and reconnection times are none."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                event = await anext(self._events)
                if event.retry is not None and not event.data:
                    self.retries.append(event.retry)
                if event.data:
                    return event

    async def take(self, count: int) -> list[ServerSentEvent]:
        return [await self.next() for _ in range(count)]

    async def until(self, event_type: str) -> list[ServerSentEvent]:
        """Events up to the first of this type, which is the last of the list."""
        found = [await self.next()]
        while found[-1].event != event_type:
            found.append(await self.next())
        return found

    async def rest(self) -> list[ServerSentEvent]:
        """Everything up to the end of the response."""
        found: list[ServerSentEvent] = []
        while True:
            try:
                found.append(await self.next())
            except StopAsyncIteration:
                return found


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, **request: Any
) -> AsyncGenerator[EventReader]:
    """Open a stream that must be one."""
    async with client.stream(method, path, headers={**EVENT_STREAM, **(headers or {})}, **request) as response:
        assert response.status_code == 200, (response.status_code, await response.aread())
        yield EventReader(response)


def types_of(events: list[ServerSentEvent]) -> list[str]:
    return [event.event for event in events]


def data_of(event: ServerSentEvent) -> Any:
    return json.loads(event.data)
