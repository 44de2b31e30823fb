"""Opening event streams: one task's, all tasks', the system's, any by its name.

Invariant: a request that has to be refused is refused before anything starts, and a subscription that no response takes
over is closed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from server.streams.errors import InvalidInput, Unknown
from server.streams.names import SYSTEM, TASKS, parse_stream_name, parse_task_id, task_stream
from server.web.cursors import start_of
from server.web.event_stream import STREAM_HEADERS, EventStreamResponse
from server.web.refusals import Busy

if TYPE_CHECKING:
    from server.fanout import Start, Subscription
    from server.web.state import WebRequest

_FULL: Final = "This server carries as many event streams as it may. Come back a little later."


async def system_events(request: WebRequest) -> Response:
    return await open_stream(request, SYSTEM, start_of(request))


async def all_task_events(request: WebRequest) -> Response:
    return await open_stream(request, TASKS, start_of(request))


async def task_events(request: WebRequest) -> Response:
    return await open_stream(request, task_stream(task_id_of(request)), start_of(request))


async def stream_events(request: WebRequest) -> Response:
    return await open_stream(request, stream_name_of(request), start_of(request))


def stream_name_of(request: WebRequest) -> str:
    """The stream's name in the path. A name that no stream can have is an unknown one. Raises `Unknown`."""
    try:
        return parse_stream_name(request.path_params["name"])
    except InvalidInput as error:
        raise Unknown(str(error)) from None


def task_id_of(request: WebRequest) -> str:
    """The task id in the path. One that no task can have is an unknown one. Raises `Unknown`."""
    try:
        return parse_task_id(request.path_params["id"])
    except InvalidInput as error:
        raise Unknown(str(error)) from None


def admit(request: WebRequest) -> None:
    """Raise `Busy` unless this server may carry one more event stream."""
    if request.state["readiness"].is_draining:
        raise Busy("This server is about to stop. Come back for another one.")
    if request.state["hub"].subscribers >= request.state["limits"].max_connections:
        raise Busy(_FULL)


async def open_stream(request: WebRequest, stream: str, start: Start) -> Response:
    """The stream, or 204 if the reader has all of it. Raises `Busy`, `Unknown` and `LogUnavailable`."""
    admit(request)
    subscription = await request.state["hub"].subscribe(stream, start)
    if request.state["hub"].subscribers > request.state["limits"].max_connections:
        # Several were let in while each waited for the log: those that came last have to go.
        subscription.close()
        raise Busy(_FULL)
    return await answer(request, subscription)


async def answer(
    request: WebRequest, subscription: Subscription, *, headers: Mapping[str, str] | None = None
) -> Response:
    """The response that takes the subscription over, or closes it where there is nothing to send."""
    if subscription.is_over:
        subscription.close()
        return Response(status_code=204, headers={"cache-control": "no-store", **(headers or {})})
    if request.method == "HEAD":
        subscription.close()
        return head_response()
    return EventStreamResponse(subscription, send_seconds=request.state["limits"].stall_seconds, headers=headers)


def head_response() -> Response:
    """The headers that a GET would get, and nothing started for it."""
    response = Response(headers=STREAM_HEADERS)
    del response.headers["content-length"]
    return response
