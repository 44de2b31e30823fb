"""The operations on the server itself: its health, its metrics, its pages, and this document."""

from __future__ import annotations

from typing import Final

from server.web.openapi.answers import nothing, problems
from server.web.openapi.operation import Operation, Told
from server.web.openapi.parameters import in_path
from server.web.openapi.shapes import Schema, answered, text

_TAG: Final = "This server"
_NO_STORE: Final = {"Cache-Control": {"schema": text(const="no-store"), "required": True}}
_NO_CACHE: Final = {"Cache-Control": {"schema": text(const="no-cache"), "required": True}}
#: Files of the page are looked at by what browsers call them.
_FILES: Final = ("text/html", "text/javascript", "text/css", "image/svg+xml")
_PLAIN: Final[Told] = {"text/plain": {"schema": text()}}


def _status(value: str) -> Told:
    schema = answered("", {"status": text(const=value)})
    content = {"application/json": {"schema": schema, "example": {"status": value}}}
    return {"description": f"It is {value}.", "headers": _NO_STORE, "content": content}


def _page(path: str, id: str, summary: str) -> Operation:
    page: Told = {"description": "HTML.", "headers": _NO_CACHE, "content": {"text/html": {"schema": text()}}}
    return Operation(
        method="get",
        path=path,
        id=id,
        tag=_TAG,
        summary=summary,
        answers={200: page, 304: nothing("Nothing is new."), **_PARTS, **problems(500, redis=False)},
    )


#: A file may be asked for in parts, which browsers do not do with pages.
_PARTS: Final[dict[int, Told]] = {
    206: {"description": "A part of it.", "content": {each: {"schema": text()} for each in _FILES}},
    416: {"description": "There is no such part.", "content": _PLAIN},
    400: {"description": "A `Range` that is none.", "content": _PLAIN},
}

LIVE: Final = Operation(
    method="get",
    path="/health/live",
    id="is_live",
    tag=_TAG,
    summary="Whether the process answers",
    answers={200: _status("live"), **problems(500, redis=False)},
)

READY: Final = Operation(
    method="get",
    path="/health/ready",
    id="is_ready",
    tag=_TAG,
    summary="Whether requests should come here",
    answers={
        200: _status("ready"),
        **problems(
            _503="Redis does not answer or must not be used, new events do not arrive, or the server is about to stop: "
            "`reasons` says which."
        ),
    },
)

METRICS: Final = Operation(
    method="get",
    path="/metrics",
    id="get_metrics",
    tag=_TAG,
    summary="Numbers for Prometheus",
    description="Of this process alone: a scraper asks each replica, not the balancer.",
    answers={
        200: {
            "description": "In the format that `Accept` asks for.",
            "headers": _NO_STORE,
            "content": {
                "text/plain": {
                    "schema": text(),
                    "example": "# HELP reprise_open_streams Event streams that this server carries now.\n"
                    "# TYPE reprise_open_streams gauge\nreprise_open_streams 3.0\n",
                },
                "application/openmetrics-text": {"schema": text()},
            },
        },
        **problems(500, redis=False),
    },
)

_DOCUMENT_SCHEMA: Final[Schema] = {"type": "object", "required": ["openapi", "info", "paths"]}

DOCUMENT: Final = Operation(
    method="get",
    path="/openapi.json",
    id="get_openapi",
    tag=_TAG,
    summary="This document",
    answers={
        200: {
            "description": "OpenAPI 3.1.",
            "headers": _NO_CACHE,
            "content": {"application/json": {"schema": _DOCUMENT_SCHEMA}},
        },
        304: nothing("Nothing is new."),
        **problems(500, redis=False),
    },
)

FILE: Final = Operation(
    method="get",
    path="/console/{file}",
    id="get_file",
    tag=_TAG,
    summary="A file of the pages",
    parameters=(in_path("file", "Its name.", text(pattern=r"^[a-z-]+\.(js|css|svg|html)$", examples=["style.css"])),),
    answers={
        200: {
            "description": "The file.",
            "headers": _NO_CACHE,
            "content": {each: {"schema": text()} for each in _FILES},
        },
        304: nothing("Nothing is new."),
        **_PARTS,
        **problems(404, 500, redis=False),
    },
)

OPERATIONS: Final = (
    LIVE,
    READY,
    METRICS,
    DOCUMENT,
    _page("/docs", "get_docs_page", "This document, to be read"),
    _page("/", "get_console_page", "The console"),
    FILE,
)
