"""What a request is, seen by itself: whether it comes from an EventSource."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from starlette.requests import Request

#: A request whose state does not matter.
AnyRequest: TypeAlias = "Request[Any]"

_NOT_ACCEPTABLE: Final = re.compile(r"q=0(\.0*)?")


def is_event_source(request: AnyRequest) -> bool:
    """Whether the request may come from an EventSource, which gives up on anything but 200."""
    return request.method == "GET" and accepts_event_stream(request)


def accepts_event_stream(request: AnyRequest) -> bool:
    """Whether the answer may be an event stream, by name: `*/*` is what everything says."""
    ranges = ",".join(request.headers.getlist("accept")).lower().split(",")
    return any(_names_event_stream(each) for each in ranges)


def _names_event_stream(media_range: str) -> bool:
    media_type, *parameters = ("".join(part.split()) for part in media_range.split(";"))
    return media_type == "text/event-stream" and not any(_NOT_ACCEPTABLE.fullmatch(each) for each in parameters)
