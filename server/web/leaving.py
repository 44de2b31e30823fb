"""Answers of a server that is about to stop: each is the last one of its connection.

A client that keeps its connection would come back to this process by it, whatever a balancer of connections thinks;
and the connections that are idle at the end have to be closed, where a request may meet the closing. So clients are
told to make a new one, while there is time. A request that outlives even that is cancelled, with nobody left to answer:
no error, and no traceback of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

_CLOSE: Final = (b"connection", b"close")


class LastAnswers:
    """Around the whole application. Costs one question per request."""

    def __init__(self, app: ASGIApp, *, is_draining: Callable[[], bool]) -> None:
        self._app = app
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_draining():
            send = _closing(send)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # Only the end of a drain cancels a request, after its connection was cut. The web server would log it.
            if scope["type"] != "http" or not self._is_draining():
                raise


def _closing(send: Send) -> Send:
    async def send_closing(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        await send(message)

    return send_closing
