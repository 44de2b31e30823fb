"""Responses: JSON, event streams, problem documents by their status.

Invariant: `problems` knows every status that a refusal may have, with what it means, so that no operation tells of one
in words of its own only.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from server.web.event_stream import STREAM_HEADERS
from server.web.openapi.operation import Told, named
from server.web.openapi.shapes import Schema, integer, ref, text
from server.web.problems import ProblemResponse

PROBLEM_TYPE: Final = str(ProblemResponse.media_type)
EVENT_STREAM: Final = STREAM_HEADERS["content-type"]

_NEVER_KEPT: Final = {"Cache-Control": {"schema": text(const="no-store"), "required": True}}
_LOCATION: Final = {"Location": {"schema": text(format="uri-reference"), "required": True}}
_LINK: Final = {
    "Link": {
        "description": '`rel="next"` is the next page, `rel="monitor"` the stream from behind the newest event on.',
        "schema": text(),
        "required": True,
    }
}
_MONITOR: Final = {
    "Link": {
        "description": '`rel="monitor"` is the event stream from behind everything that the answer shows.',
        "schema": text(),
        "required": True,
    }
}
_POLLED_LINK: Final = {
    "Link": {
        "description": (
            'Of JSON: `rel="next"` is the next poll, `rel="alternate monitor"` the event stream, both from where the '
            "answer ends. Left out behind the end, and where it would exceed 2 KB."
        ),
        "schema": text(),
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "schema": integer(minimum=1), "required": True},
}
_PLAIN_ONLY: Final = {
    "Accept-Encoding": {
        "description": "Where a `Content-Encoding` was refused.",
        "schema": text(const="identity"),
    }
}
#: What a refusal has besides.
_HEADERS: Final = {415: _PLAIN_ONLY, 503: _RETRY_AFTER}

#: What each refusal means, where an operation says nothing else.
_MEANINGS: Final = {
    400: "A cursor, parameter, header or body that cannot be read.",
    403: "The stream is Reprise's own, and not for others to change.",
    404: "There is no such thing.",
    406: "Asked for by something that is no EventSource.",
    409: "The present state forbids it, or the `Idempotency-Key` came with another request.",
    413: "The body, or an event in it, is too large.",
    415: "The body is of another content type, in another charset than UTF-8, or compressed (`Content-Encoding`).",
    422: "A member of the body is wrong, missing or unknown, and `errors` points at each, or at the first twenty.",
    500: "A bug, or a Redis that refuses for good; the server's log has the reason.",
    503: "Not now: come back after `Retry-After` seconds. An EventSource gets 200, `retry:` and the end instead.",
}
#: What a request may meet that Redis has a part in.
_REDIS: Final = (500, 503)
#: What a body adds.
_BODY: Final = (400, 413, 415, 422)


def answer(description: str, schema: str, example: Any, *, headers: Told | None = None) -> Told:
    """JSON that nobody keeps."""
    content = {"application/json": {"schema": ref(schema), "example": example}}
    return {"description": description, "headers": {**_NEVER_KEPT, **(headers or {})}, "content": content}


def located(description: str, schema: str, example: Any) -> Told:
    """The same, saying where it is."""
    return answer(description, schema, example, headers=_LOCATION)


def linked(description: str, schema: str, example: Any) -> Told:
    """The same, saying where it goes on."""
    return answer(description, schema, example, headers=_LINK)


def monitored(description: str, schema: str, example: Any) -> Told:
    """The same, saying what follows it."""
    return answer(description, schema, example, headers=_MONITOR)


def event_stream(description: str, example: str) -> Told:
    """Events, as long as they come; the schema is that of each. A reader who is refused for now gets `retry:` alone."""
    headers: Told = {
        "Cache-Control": {"schema": text(const=STREAM_HEADERS["cache-control"]), "required": True},
        "X-Accel-Buffering": {"schema": text(const=STREAM_HEADERS["x-accel-buffering"]), "required": True},
    }
    content = {EVENT_STREAM: {"schema": ref("StreamEvent"), "example": example}}
    return {"description": description, "headers": headers, "content": content}


def started_stream(description: str, example: str) -> Told:
    """The same of a task that was started for it."""
    told = event_stream(description, example)
    location: Told = {"description": "The task that was started.", "schema": text(format="uri-reference")}
    return {**told, "headers": {**told["headers"], "Location": location}}


def followed(description: str, example: str, poll: Any) -> Told:
    """The same for a GET, which may ask for JSON instead."""
    told = event_stream(description, example)
    kept = text("The second of JSON.", enum=[STREAM_HEADERS["cache-control"], "no-store"])
    headers: Told = {
        "Cache-Control": {"schema": kept, "required": True},
        "X-Accel-Buffering": {
            "description": "Of an event stream.",
            "schema": text(const=STREAM_HEADERS["x-accel-buffering"]),
        },
        **_POLLED_LINK,
    }
    content = {**told["content"], "application/json": {"schema": ref("Poll"), "example": poll}}
    return {"description": description, "headers": headers, "content": content}


def nothing(description: str) -> Told:
    """204."""
    return {"description": description}


def problems(*statuses: int, redis: bool = True, has_body: bool = False, **meanings: str) -> dict[int, Told]:
    """Refusals by status, those of a body and of Redis included. `meanings` say more, as `_409="…"`."""
    found = {*statuses, *(_REDIS if redis else ()), *(_BODY if has_body else ())}
    return {status: _problem(status, meanings.get(f"_{status}")) for status in sorted(found)}


def _problem(status: int, meaning: str | None) -> Told:
    headers = {**_NEVER_KEPT, **_HEADERS.get(status, {})}
    description = meaning or _MEANINGS[status]
    return {"description": description, "headers": headers, "content": {PROBLEM_TYPE: _document(status, description)}}


def _document(status: int, detail: str) -> dict[str, Any]:
    example = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return {"schema": _with_status(status), "examples": named({"usual": example})}


def _with_status(status: int) -> Schema:
    return {"allOf": [ref("Problem"), {"properties": {"status": {"const": status}}}]}
