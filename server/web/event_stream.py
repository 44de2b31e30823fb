"""The response that lasts: frames of a subscription, as they come, until its end or the reader's.

Two ways lead out. Where the server offers its connection (`HAND_OVER`), the subscription writes to that and the
application is done: no asyncio task waits for the reader. Under any other server blocks go through ASGI's `send`.

Invariant: however it ends, the subscription is closed and nothing is left running. Heartbeats, age and drain are the
hub's affair; this only carries bytes. sse-starlette's shutdown watcher is left out: it cuts responses off in the middle
of a chunk as soon as the process is told to stop, where ours drain.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol, cast

import anyio
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from server.fanout.frames import preamble

if TYPE_CHECKING:
    from server.fanout import Subscription

#: Extension of the ASGI scope with which a server offers the connection itself: see `HandOver`.
HAND_OVER: Final = "reprise.hand_over"

STREAM_HEADERS: Final[Mapping[str, str]] = {
    # Exactly this: some clients compare the whole value, and a charset says nothing, UTF-8 being the only one.
    "content-type": "text/event-stream",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}


class HandOver(Protocol):
    """What stands in the scope under `HAND_OVER`."""

    def __call__(self, subscription: Subscription, first: bytes) -> bool:
        """Write `first`, then whatever the subscription has, and end the response with it; it is closed then.

        To be called once the response has started. False if this response cannot be handed over: nothing has happened.
        """
        ...


class EventStreamResponse(EventSourceResponse):
    """Sends a preamble, then the frames of `subscription`. It owns the subscription from here on."""

    def __init__(
        self, subscription: Subscription, *, send_seconds: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """`send_seconds` is how long a reader may take nothing, where blocks go through `send`."""
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            iter(()), headers={**STREAM_HEADERS, **(headers or {})}, ping=0
        )
        # The parent's is for HTTP/1.0 proxies of old, and forbidden in HTTP/2.
        del self.headers["connection"]
        self._subscription = subscription
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_handed_over = False
        try:
            await self._start(send)
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            first = preamble(random.randint(1000, 3000))
            hand_over = cast("HandOver | None", scope.get("extensions", {}).get(HAND_OVER))
            is_handed_over = hand_over is not None and hand_over(self._subscription, first)
            if not is_handed_over:
                await self._stream(first, receive, send)
        finally:
            if not is_handed_over:
                self._subscription.close()

    async def _stream(self, first: bytes, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_until_disconnect, receive, group.cancel_scope, name="disconnect of a reader")
            await self._send_frames(first, send)
            group.cancel_scope.cancel()

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send_frames(self, first: bytes, send: Send) -> None:
        is_taken = await self._send_chunk(send, first)
        async with aclosing(cast("AsyncGenerator[bytes]", self._subscription.frames())) as blocks:
            while is_taken and (block := await anext(blocks, None)) is not None:
                is_taken = await self._send_chunk(send, block)
        if is_taken:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_chunk(self, send: Send, chunk: bytes) -> bool:
        """Whether it was taken in time. If not, the response stays incomplete, and the server cuts the connection."""
        with anyio.move_on_after(self._send_seconds) as scope:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        return not scope.cancelled_caught


async def _until_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    """End `scope` when the reader has gone. Whatever else arrives is a request body, which says nothing here."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
