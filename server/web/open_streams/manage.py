"""Streams as a whole over HTTP: made with settings, looked at, closed, deleted, listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from starlette.responses import Response

from server.streams.errors import InvalidInput
from server.streams.event import COMPLETE, Draft, check_size, encode_json
from server.streams.names import parse_stream_name
from server.streams.retention import KEEPS, LONGEST_TTL_SECONDS, MOST_EVENTS, Keep, Retention
from server.web.bodies import read_object, whole_number
from server.web.json_answers import json_response
from server.web.names import changeable_stream, stream_name_of
from server.web.paging import limit_of
from server.web.problems import FieldError, Problem, invalid, shown

if TYPE_CHECKING:
    from server.streams.calls import About
    from server.web.state import WebRequest

SETTINGS: Final = ("max_events", "ttl_seconds", "keep")


async def put_stream(request: WebRequest) -> Response:
    """201 for settings that are new, 200 for those that it has; 409 for others."""
    stream = changeable_stream(request)
    body = await read_object(request, max_bytes=request.state["limits"].max_body_bytes, known=SETTINGS)
    asked = _retention(body)
    found = await request.state["streams"].create(stream, asked)
    if found.outcome == "differs":
        raise Problem(
            409,
            f"The stream {stream!r} has other settings: {_settings_text(found.retention)}. They hold for as long as it "
            "exists: delete it first, or use them.",
        )
    about = await request.state["streams"].about(stream)
    headers = {"location": f"/streams/{stream}"}
    return json_response(
        _described(request, stream, about), status=201 if found.outcome == "created" else 200, headers=headers
    )


async def get_stream(request: WebRequest) -> Response:
    stream = stream_name_of(request)
    return json_response(_described(request, stream, await request.state["streams"].about(stream)))


async def close_stream(request: WebRequest) -> Response:
    """The id of the end: its own, or that of whoever was faster."""
    stream = changeable_stream(request)
    limits = request.state["limits"]
    body = await read_object(request, max_bytes=limits.max_body_bytes, known=("result",))
    data = encode_json({"result": body.get("result")}, what="The result")
    end = Draft(COMPLETE, check_size(data, max_bytes=limits.max_body_bytes))
    return json_response({"id": str(await request.state["streams"].close(stream, end))})


async def delete_stream(request: WebRequest) -> Response:
    await request.state["streams"].delete(changeable_stream(request))
    return Response(status_code=204)


async def list_streams(request: WebRequest) -> Response:
    query = request.query_params
    prefix, cursor = _part_of_name(query.get("prefix"), "prefix"), _part_of_name(query.get("cursor"), "cursor")
    page = await request.state["streams"].index.list(
        prefix=prefix, limit=limit_of(query.get("limit")), cursor=cursor or None
    )
    return json_response(
        {
            "streams": [_described(request, each.name, each.about) for each in page.streams],
            "next": page.next_cursor,
        }
    )


def _part_of_name(text: str | None, parameter: str) -> str:
    """What begins a stream's name may be one by itself. Raises `Problem`."""
    try:
        return parse_stream_name(text) if text else ""
    except InvalidInput as error:
        raise Problem(400, f"{parameter!r} fits no stream: {error}") from None


def _described(request: WebRequest, stream: str, about: About) -> dict[str, Any]:
    streams = request.state["streams"]
    retention = streams.effective(about.retention)
    return {
        "name": stream,
        "first_id": str(about.first_id) if about.first_id else None,
        "last_id": str(about.last_id) if about.last_id else None,
        "length": about.length,
        "bytes": about.size_bytes,
        "closed": about.is_closed,
        "expires_in_seconds": about.expires_ms // 1000 if about.expires_ms is not None else None,
        "retention": {
            "max_events": retention.max_events,
            "max_bytes": streams.max_bytes or None,
            "ttl_seconds": _seconds(retention.ttl_ms),
            "keep": retention.keep,
        },
        "events_url": f"/streams/{stream}/events",
    }


def _retention(body: dict[str, Any]) -> Retention:
    errors = [
        FieldError(f"#/{name}", detail)
        for name, detail in (
            ("max_events", _fault_of_count(body.get("max_events"))),
            ("ttl_seconds", _fault_of_ttl(body.get("ttl_seconds"))),
            ("keep", _fault_of_keep(body)),
        )
        if detail
    ]
    if errors:
        raise invalid(*errors)
    ttl = body.get("ttl_seconds")
    return Retention(
        whole_number(body.get("max_events")),
        None if ttl is None else round(ttl * 1000),
        cast("Keep", body.get("keep") or "all"),
    )


def _fault_of_count(value: Any) -> str | None:
    count = whole_number(value)
    if value is None or (count is not None and 1 <= count <= MOST_EVENTS):
        return None
    return f"{shown(value)} is not a number of events. Use a whole number from 1 to {MOST_EVENTS}, or leave it out."


def _fault_of_ttl(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= LONGEST_TTL_SECONDS:
        return None
    return f"{shown(value)} is not a time. Use seconds from 1 to {LONGEST_TTL_SECONDS} (366 days), or leave it out."


def _fault_of_keep(body: dict[str, Any]) -> str | None:
    value = body.get("keep")
    if value is not None and value not in KEEPS:
        return f"{shown(value)} does not say what to keep. Use all or latest."
    if value == "latest" and body.get("max_events") is not None:
        return "With 'latest' one event is kept; leave 'max_events' out."
    return None


def _settings_text(retention: Retention) -> str:
    settings = {"max_events": retention.max_events, "ttl_seconds": _seconds(retention.ttl_ms), "keep": retention.keep}
    return ", ".join(f"{name} {shown(value)}" for name, value in settings.items() if value is not None)


def _seconds(milliseconds: int | None) -> float | int | None:
    if milliseconds is None:
        return None
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000
