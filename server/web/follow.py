"""Opening event streams: one task's, all tasks', the system's, any by its name, several at once.

Invariant: a request that has to be refused is refused before anything starts, and a subscription that no response takes
over is closed here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from server.streams.names import SYSTEM, TASKS, parse_stream_name, task_stream
from server.web.cursors import manner_of, start_of, starts_of
from server.web.event_stream import STREAM_HEADERS, EventStreamResponse
from server.web.names import stream_name_of, task_id_of
from server.web.poll import poll, wait_of
from server.web.problems import Problem
from server.web.refusals import Busy
from server.web.requests import wants_json

if TYPE_CHECKING:
    from server.fanout import Hub, Manner, Start, Subscription
    from server.web.state import WebRequest

#: So that the longest id of several streams passes the header limits of nginx and HAProxy as they come.
MOST_STREAMS: Final = 32
LONGEST_NAMES: Final = 2048
_FULL: Final = "This server carries as many event streams as it may. Come back a little later."


async def system_events(request: WebRequest) -> Response:
    return await open_stream(request, SYSTEM, start_of(request), manner_of(request))


async def all_task_events(request: WebRequest) -> Response:
    return await open_stream(request, TASKS, start_of(request), manner_of(request))


async def task_events(request: WebRequest) -> Response:
    return await open_stream(request, task_stream(task_id_of(request)), start_of(request), manner_of(request))


async def stream_events(request: WebRequest) -> Response:
    return await open_stream(request, stream_name_of(request), start_of(request), manner_of(request))


async def several_events(request: WebRequest) -> Response:
    streams = streams_of(request)
    starts, manner = starts_of(request, streams), replace(manner_of(request), is_composite=True)
    return await _respond(request, lambda hub: hub.subscribe_all(starts, manner))


def streams_of(request: WebRequest) -> list[str]:
    """The streams that the query names, each once. Raises `Problem` and `InvalidInput`."""
    streams = [parse_stream_name(each) for each in dict.fromkeys(request.query_params.getlist("stream"))]
    if not streams:
        raise Problem(400, "No stream is named. Use /events?stream=chat.42&stream=system.")
    if len(streams) > MOST_STREAMS:
        raise Problem(400, f"There are {len(streams)} streams. Follow {MOST_STREAMS} at most in one request.")
    if (size := sum(map(len, streams))) > LONGEST_NAMES:
        raise Problem(
            400,
            f"The names of the {len(streams)} streams have {size} characters together; {LONGEST_NAMES} is the most. "
            "Follow them in two requests.",
        )
    return streams


def admit(request: WebRequest) -> None:
    """Raise `Busy` unless this server may carry one more event stream."""
    if request.state["readiness"].is_draining:
        raise Busy("This server is about to stop. Come back for another one.")
    if request.state["hub"].subscribers >= request.state["limits"].max_connections:
        raise Busy(_FULL)


async def open_stream(request: WebRequest, stream: str, start: Start, manner: Manner) -> Response:
    """The stream, or 204 if the reader has all of it; JSON if that is asked for.

    Raises `Busy`, `Unknown` and `LogUnavailable`.
    """
    return await _respond(request, lambda hub: hub.subscribe(stream, start, manner))


async def _respond(request: WebRequest, subscribe: Callable[[Hub], Awaitable[Subscription]]) -> Response:
    """With an event stream, or with JSON where that is what a GET asks for."""
    if request.method == "POST":
        return await answer(request, await _subscribed(request, subscribe))
    wait_seconds = wait_of(request)
    if not wants_json(request):
        return await answer(request, await _subscribed(request, subscribe))
    return await poll(request, await _subscribed(request, subscribe), wait_seconds=wait_seconds)


async def _subscribed(request: WebRequest, subscribe: Callable[[Hub], Awaitable[Subscription]]) -> Subscription:
    """A subscription, if this server may carry one more. Raises `Busy`, `Unknown` and `LogUnavailable`."""
    admit(request)
    subscription = await subscribe(request.state["hub"])
    if request.state["hub"].subscribers > request.state["limits"].max_connections:
        # Several were let in while each waited for the log: those that came last have to go.
        subscription.close()
        raise Busy(_FULL)
    return subscription


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
