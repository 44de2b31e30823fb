"""The OpenAPI document, put together from its operations, and `GET /openapi.json`.

It is made once: nothing in it depends on the server that answers. Invariant: it names no host; whoever reads it is at
the server it tells of.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from server.web.openapi import dead_letters, service, streams, tasks
from server.web.openapi.records import SCHEMAS

if TYPE_CHECKING:
    from server.web.openapi.operation import Operation
    from server.web.state import WebRequest

_OPENAPI: Final = "3.1.1"
_GROUPS: Final = (tasks, streams, dead_letters, service)
#: Its tags, in the order in which they are shown.
_TAGS: Final = {
    "Tasks": "Work that workers do, and whose events can be followed from anywhere.",
    "Streams": "Events that any program publishes, and any page follows.",
    "Dead letters": "Tasks that were given up, with their input and every attempt's error.",
    "This server": "Whether it is well, and what it shows.",
}
_DESCRIPTION: Final = """\
Event streams that resume, over Server-Sent Events.

Event streams (`text/event-stream`) begin behind the cursor that a request names; every event has an id, and the last
one received is all it takes to go on from there, on any replica. A response may end at any time: only `complete`,
`error` and `cancelled` are the end of a stream, which is answered 204 from then on.

A `GET` of an event stream whose `Accept` names `application/json`, and no `text/event-stream`, is answered with JSON as
soon as there is something to tell, or after `wait` seconds: the same events, cursors and filters for clients that
cannot stream. What is stored is looked through whatever the wait, for five seconds at most where that is shorter, and
`more` says whether the answer may end before all of it. It is 200 also where nothing is left, with `ended`, and 503
where it cannot be served now.

Every refusal outside an event stream is a problem document (RFC 9457). An EventSource gives up for good on any status
but 200, so that a `GET` whose `Accept` contains `text/event-stream` is answered 200, 204, 400 or 404 and nothing else:
what passes by itself is 200 with `retry:`, and ends.

An address that takes other methods answers 405, with `Allow`. `HEAD` answers the headers of `GET` and starts nothing.
"""


def operations() -> list[Operation]:
    """All of them, in the order in which they are shown."""
    return [each for group in _GROUPS for each in group.OPERATIONS]


@cache
def document() -> dict[str, Any]:
    """The document. Not to be changed."""
    paths: dict[str, dict[str, Any]] = {}
    for each in operations():
        item = paths.setdefault(each.path, {})
        item[each.method] = each.as_json()
        if each.method == "get":
            item["head"] = each.head_as_json()
    return {
        "openapi": _OPENAPI,
        "info": {
            "title": "Reprise",
            "version": version("reprise"),
            "summary": "Event streams that resume.",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


@cache
def _text() -> tuple[bytes, str]:
    """The document as it is sent, and its ETag."""
    encoded = json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()
    return encoded, f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'


async def openapi_document(request: WebRequest) -> Response:
    body, tag = _text()
    headers = {"cache-control": "no-cache", "etag": tag}
    known = request.headers.get("if-none-match", "").strip()
    if known == "*" or tag in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers={**headers, "content-type": "application/json"})
