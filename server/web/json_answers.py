"""Answers in JSON, and their header `Link` (RFC 8288): where one goes on.

`next` is the next page; `monitor` (RFC 5989) the event stream that goes on behind what the answer holds, so that a page
can show that and then follow from exactly there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import JSONResponse, Response


def json_response(content: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that nobody keeps."""
    return JSONResponse(content, status, {"cache-control": "no-store", **(headers or {})})


def link(path: str, parameters: Iterable[tuple[str, str]], *, rel: str) -> str:
    """One value of the header. Names and values are escaped, and those that are empty are left out."""
    query = urlencode([each for each in parameters if each[1]], safe=":,-", quote_via=quote)
    return f'<{quote(path)}{"?" if query else ""}{query}>; rel="{rel}"'


def stream_link(path: str, parameters: Iterable[tuple[str, str]], *, rel: str = "monitor") -> str:
    """The same of an event stream."""
    return link(path, parameters, rel=rel) + '; type="text/event-stream"'
