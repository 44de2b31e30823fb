"""Every path of the server, in the order in which they are tried: streams first, the page last.

A route of Starlette answers HEAD where it answers GET; event streams then send headers only and start nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from server.web import dead_letters, follow, health, tasks
from server.web.countdown import countdown
from server.web.metrics import metrics
from server.web.open_streams import manage
from server.web.open_streams.history import history
from server.web.open_streams.publish import publish
from server.web.openapi.document import openapi_document
from server.web.page import Page
from server.web.state import WebRequest
from server.web.usable import writing

Endpoint: TypeAlias = Callable[[WebRequest], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """What `server.app` gives to Starlette."""
    page = Page()
    return [
        Route("/tasks/stream", follow.all_task_events, methods=["GET"]),
        Route("/tasks/{id}/events", follow.task_events, methods=["GET"]),
        _route("/streams/{name}/events", GET=follow.stream_events, POST=writing(publish)),
        Route("/streams/{name}/history", history, methods=["GET"]),
        Route("/streams/{name}/close", writing(manage.close_stream), methods=["POST"]),
        _route(
            "/streams/{name}",
            GET=manage.get_stream,
            PUT=writing(manage.put_stream),
            DELETE=writing(manage.delete_stream),
        ),
        Route("/streams", manage.list_streams, methods=["GET"]),
        Route("/events", follow.several_events, methods=["GET"]),
        Route("/stream/system", follow.system_events, methods=["GET"]),
        Route("/stream/countdown/{seconds}", countdown, methods=["GET"]),
        Route("/task-types", tasks.task_types, methods=["GET"]),
        _route("/tasks", GET=tasks.list_tasks, POST=writing(tasks.create_task)),
        _route("/tasks/{id}", GET=tasks.get_task, DELETE=writing(tasks.delete_task)),
        Route("/tasks/{id}/execute", tasks.execute_task, methods=["POST"]),
        Route("/tasks/{id}/cancel", writing(tasks.cancel_task), methods=["POST"]),
        Route("/dead-letters", dead_letters.list_dead_letters, methods=["GET"]),
        _route("/dead-letters/{id}", GET=dead_letters.get_dead_letter, DELETE=writing(dead_letters.delete_dead_letter)),
        Route("/dead-letters/{id}/retry", writing(dead_letters.retry_dead_letter), methods=["POST"]),
        Route("/health/live", health.live, methods=["GET"]),
        Route("/health/ready", health.ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/openapi.json", openapi_document, methods=["GET"]),
        Route("/docs", Page("docs.html"), methods=["GET"]),
        Mount("/console", page),
        Route("/", page, methods=["GET"]),
    ]


def _route(path: str, **endpoints: Endpoint) -> Route:
    """One route for all methods of a path, so that a refused method is told of all the others."""

    async def endpoint(request: WebRequest) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=list(endpoints))
