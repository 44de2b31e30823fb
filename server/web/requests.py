"""What a request is, seen by itself: whether it comes from an EventSource, and what it takes for an answer."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from starlette.requests import Request

from server.web.problems import Problem

#: A request whose state does not matter.
AnyRequest: TypeAlias = "Request[Any]"

#: What may stand around the value of a header and is no part of it (RFC 9110, 5.5); servers leave some of it there.
_BLANKS: Final = " \t"
_NOT_ACCEPTABLE: Final = re.compile(r"q=0(\.0*)?")


def header_values(request: AnyRequest, name: str) -> list[str]:
    """The values of all headers of this name, without the blanks around each."""
    return [value.strip(_BLANKS) for value in request.headers.getlist(name)]


def single_header(request: AnyRequest, name: str) -> str | None:
    """The value of the one header of this name; None if there is none. Raises `Problem` 400 if there are several.

    Which of them a proxy or another server would take is anybody's guess.
    """
    values = header_values(request, name)
    if len(values) > 1:
        raise Problem(400, f"There are {len(values)} headers {name}. Send one.")
    return values[0] if values else None


def is_event_source(request: AnyRequest) -> bool:
    """Whether the request may come from an EventSource, which gives up on anything but 200."""
    return request.method == "GET" and accepts_event_stream(request)


def accepts_event_stream(request: AnyRequest) -> bool:
    """Whether the answer may be an event stream, by name: `*/*` is what everything says."""
    return _names(request, "text/event-stream")


def wants_json(request: AnyRequest) -> bool:
    """Whether the answer is to be JSON where it could be an event stream: by name, and no event stream is named."""
    return _names(request, "application/json") and not accepts_event_stream(request)


def _names(request: AnyRequest, media_type: str) -> bool:
    ranges = ",".join(request.headers.getlist("accept")).lower().split(",")
    return any(_is_range_of(media_type, each) for each in ranges)


def _is_range_of(media_type: str, media_range: str) -> bool:
    named, *parameters = ("".join(part.split()) for part in media_range.split(";"))
    return named == media_type and not any(_NOT_ACCEPTABLE.fullmatch(each) for each in parameters)
