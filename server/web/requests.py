"""What a request is, seen by itself: whether it comes from an EventSource."""

from __future__ import annotations

from typing import Any, TypeAlias

from starlette.requests import Request

#: A request whose state does not matter.
AnyRequest: TypeAlias = "Request[Any]"


def is_event_source(request: AnyRequest) -> bool:
    """Whether the request may come from an EventSource, which gives up on anything but 200."""
    return request.method == "GET" and accepts_event_stream(request)


def accepts_event_stream(request: AnyRequest) -> bool:
    """Whether the answer may be an event stream."""
    return any("text/event-stream" in value.lower() for value in request.headers.getlist("accept"))
