"""Refuses what would write while this server's Redis is one that must not be used (`Readiness.unsuitable`).

Invariant: nothing of such a request has been sent to Redis. That holds from the first check on: before it nothing is
refused, so that a server serves as soon as its Redis answers. What reads goes on: the data are as good as they ever
were. Readiness is red meanwhile, but not everybody asks for it, and a balancer needs its time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING

from starlette.responses import Response

from server.web.refusals import Unsuitable

if TYPE_CHECKING:
    from server.web.state import WebRequest


def check_usable(request: WebRequest) -> None:
    """Raise `Unsuitable` if nothing may be written."""
    if reasons := request.state["readiness"].unsuitable:
        raise Unsuitable(" ".join(reasons))


def writing(endpoint: Callable[[WebRequest], Awaitable[Response]]) -> Callable[[WebRequest], Awaitable[Response]]:
    """An endpoint all of whose requests write."""

    @wraps(endpoint)
    async def checked(request: WebRequest) -> Response:
        check_usable(request)
        return await endpoint(request)

    return checked
