"""Answers to requests that something stands in the way of, and the handlers that turn exceptions into answers.

Invariant: an EventSource is never stranded. A browser gives up for good on any status but 200, so a GET that accepts
an event stream is answered 200, `retry:`, end, whatever the passing trouble is; others get 503 and `Retry-After`.
Browsers do not back off, so the time they are told grows with the number of those who were refused lately.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final, TypeAlias, cast

from starlette.exceptions import HTTPException
from starlette.responses import Response

from server.fanout.frames import retry_frame
from server.streams.errors import (
    Conflict,
    InvalidInput,
    LogRefused,
    LogUnavailable,
    NotDurable,
    NotStored,
    TooLarge,
    Unknown,
)
from server.streams.safety import Safety
from server.web.event_stream import STREAM_HEADERS
from server.web.problems import Problem, ProblemResponse, response_of, shown
from server.web.requests import AnyRequest, is_event_source

_logger = logging.getLogger(__name__)

_Handler: TypeAlias = Callable[[AnyRequest, Exception], Awaitable[Response]]

#: Refusals count for this long: about as long as an outage that nobody has to hear of.
_REMEMBERED_SECONDS: Final = 60.0
#: Readers come back at this rate, all together: a rate that one server answers with ease.
_RETURNING_PER_SECOND: Final = 100
#: Somebody who watches a page gives up after about a minute.
_LONGEST_RETRY_MS: Final = 60_000
#: Below, a reader is back before whatever was in its way has passed.
_SHORTEST_RETRY_MS: Final = 500
#: A little less than what browsers wait of their own accord: three seconds in Chromium, five in Firefox.
_USUAL_RETRY_MS: Final = 2000
#: What an EventSource may be answered besides 200 and 204; the countdown's 406 is for what is none.
_UNDERSTOOD: Final = frozenset({400, 401, 403, 404, 406})


class Busy(Exception):
    """Nobody's: the request is fine, and would be answered a little later or by another replica."""


class Unsuitable(Exception):
    """A person's: this Redis must not be used as it is set up, so nothing was sent to it. The message says why."""


class Refusals:
    """Counts refusals and says when the next refused reader should come back."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        #: When each was refused, oldest first. As many as decide anything: beyond, the longest time is told anyway.
        self._recent: deque[float] = deque(maxlen=_LONGEST_RETRY_MS * _RETURNING_PER_SECOND // 1000)

    def next_retry_ms(self) -> int:
        """Count one more, and return its time to come back, jittered."""
        now = self._clock()
        while self._recent and now - self._recent[0] > _REMEMBERED_SECONDS:
            self._recent.popleft()
        self._recent.append(now)
        middle = max(_USUAL_RETRY_MS, len(self._recent) * 1000 // _RETURNING_PER_SECOND)
        return max(_SHORTEST_RETRY_MS, min(_LONGEST_RETRY_MS, int(middle * random.uniform(0.5, 1.5))))


def refuse(
    request: AnyRequest, reason: str, *, headers: Mapping[str, str] | None = None, frame: bytes = b""
) -> Response:
    """200, `retry:`, end: come back later. `frame` is what the reader must know before it does."""
    refusals = cast("Refusals", request.state["refusals"])
    comment = " ".join(reason.split())
    body = retry_frame(refusals.next_retry_ms()) + f": {comment}\n\n".encode() + frame
    response = Response(body, headers=STREAM_HEADERS)
    response.headers.update(headers or {})
    return response


def busy_response(request: AnyRequest, reason: str, **members: str) -> Response:
    """The answer to a request that may succeed later. `members` are more of its problem document."""
    if is_event_source(request):
        return refuse(request, reason)
    refusals = cast("Refusals", request.state["refusals"])
    seconds = max(1, round(refusals.next_retry_ms() / 1000))
    return ProblemResponse(503, reason, headers={"retry-after": str(seconds)}, **members)


async def _on_problem(request: AnyRequest, error: Exception) -> Response:
    return response_of(cast("Problem", error))


async def _on_busy(request: AnyRequest, error: Exception) -> Response:
    return busy_response(request, str(error))


async def _on_unsuitable(request: AnyRequest, error: Exception) -> Response:
    reason = f"This server's Redis cannot be used: {error} Nothing of this request is stored."
    return busy_response(request, reason, code="not_stored")


async def _on_unavailable(request: AnyRequest, error: Exception) -> Response:
    _logger.debug("%s %s was refused: %s", request.method, request.url.path, error)
    code = cast("LogUnavailable", error).code
    what = f"takes nothing at the moment ({code})" if code else "cannot be reached at the moment"
    return busy_response(request, f"The event log {what}. Try again shortly.")


async def _on_not_stored(request: AnyRequest, error: Exception) -> Response:
    """By the code a client can tell that nothing has happened from a Redis that is away, which leaves it open."""
    code = cast("NotStored", error).code
    reason = (
        f"The event log takes nothing at the moment ({code}). Nothing of this request is stored. Send it again later, "
        "with the same Idempotency-Key if there was one."
    )
    return busy_response(request, reason, code="not_stored")


def note_not_durable(request: AnyRequest, error: Exception) -> None:
    """Count a request that waited in vain, for the log to tell of that time."""
    cast("Safety", request.state["safety"]).met(error, now=asyncio.get_running_loop().time())


async def _on_not_durable(request: AnyRequest, error: Exception) -> Response:
    """It has been waited for already, and by the code a client can tell it from a Redis that is away."""
    _logger.debug("%s %s is not safe: %s", request.method, request.url.path, error)
    note_not_durable(request, error)
    reason = (
        "What was asked for may be stored, but not as durably as it has to be here (REPRISE_DURABILITY): a failover "
        "may still undo it. Ask again, with the same Idempotency-Key if there was one; then it is done once."
    )
    return busy_response(request, reason, code="not_durable")


async def _on_refused(request: AnyRequest, error: Exception) -> Response:
    """Asking again is of no use, but an EventSource must not be closed for good: somebody may mend it."""
    _logger.warning("%s %s cannot be served: %s", request.method, request.url.path, error)
    reason = "The event log refuses this. Whoever runs this server finds the reason in its log."
    return refuse(request, reason) if is_event_source(request) else ProblemResponse(500, reason)


def _saying(status: int) -> _Handler:
    """A handler for errors whose text is the answer."""

    async def handler(request: AnyRequest, error: Exception) -> Response:
        return ProblemResponse(status, str(error))

    return handler


async def _on_http(request: AnyRequest, error: Exception) -> Response:
    """Starlette's own: unknown paths and methods."""
    found = cast("HTTPException", error)
    status, headers = found.status_code, found.headers
    if is_event_source(request) and status not in _UNDERSTOOD:
        status, headers = 404, None
    path = shown(request.url.path)
    if status == 404:
        detail = f"There is nothing to {request.method} at {path}. docs/api.md lists every address."
    elif status == 405:
        allowed = ", ".join(sorted((headers or {}).get("Allow", "another method").split(", ")))
        detail = f"{path} does not take {request.method}. Use {allowed}."
    else:
        detail = found.detail
    return ProblemResponse(status, detail, headers=headers)


async def _on_unexpected(request: AnyRequest, error: Exception) -> Response:
    """A bug of ours. The exception goes on to the server, which logs it with its traceback."""
    if is_event_source(request):
        return refuse(request, "Something went wrong in the server.")
    return ProblemResponse(500, "Something went wrong in the server; its log says what.")


EXCEPTION_HANDLERS: Final[dict[Any, _Handler]] = {
    Problem: _on_problem,
    Busy: _on_busy,
    Unsuitable: _on_unsuitable,
    LogUnavailable: _on_unavailable,
    NotStored: _on_not_stored,
    NotDurable: _on_not_durable,
    LogRefused: _on_refused,
    InvalidInput: _saying(400),
    TooLarge: _saying(413),
    Unknown: _saying(404),
    Conflict: _saying(409),
    HTTPException: _on_http,
    Exception: _on_unexpected,
}
