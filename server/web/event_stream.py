"""The response that lasts: frames of a subscription, as they come, until its end or the reader's.

Invariant: however it ends, the subscription is closed and nothing is left running. Heartbeats, age and drain are the
hub's affair; this only carries bytes. sse-starlette's shutdown watcher is left out: it cuts responses off in the middle
of a chunk as soon as the process is told to stop, where ours drain.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, cast

import anyio
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from server.fanout.frames import preamble

if TYPE_CHECKING:
    from server.fanout import Subscription

_logger = logging.getLogger(__name__)

STREAM_HEADERS: Final[Mapping[str, str]] = {
    # Exactly this: some clients compare the whole value, and a charset says nothing, UTF-8 being the only one.
    "content-type": "text/event-stream",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}


class EventStreamResponse(EventSourceResponse):
    """Sends a preamble, then the frames of `subscription`. It owns the subscription from here on."""

    def __init__(self, subscription: Subscription, *, headers: Mapping[str, str] | None = None) -> None:
        self._frames = subscription.frames()
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            self._frames, headers={**STREAM_HEADERS, **(headers or {})}, ping=0
        )
        # The parent's is for HTTP/1.0 proxies of old, and forbidden in HTTP/2.
        del self.headers["connection"]
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "HEAD":
                await self._start(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await self._stream(receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._subscription.aclose()

    async def _stream(self, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_until_disconnect, receive, group.cancel_scope, name="disconnect of a reader")
            await self._start(send)
            await self._send_frames(send)
            group.cancel_scope.cancel()

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send_frames(self, send: Send) -> None:
        await _send_chunk(send, preamble(random.randint(1000, 3000)))
        try:
            async with aclosing(cast("AsyncGenerator[bytes]", self._frames)) as blocks:
                async for block in blocks:
                    await _send_chunk(send, block)
        except Exception:  # the boundary of one subscriber: it comes back with its cursor, others are not touched
            _logger.exception("A subscription failed; its reader is asked to come back")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_chunk(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _until_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    """End `scope` when the reader has gone. Whatever else arrives is a request body, which says nothing here."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
