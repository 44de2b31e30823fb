"""`GET /streams/{name}/history`: pages of a stream as JSON, for who shows what was there before following the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from server.fanout.history import Range, backwards, forwards
from server.streams.errors import InvalidCursor
from server.streams.ids import EventId, parse_event_id
from server.streams.records import rfc3339
from server.web.cursors import flag
from server.web.json_answers import json_response, link, stream_link
from server.web.names import stream_name_of
from server.web.paging import limit_of
from server.web.problems import Problem, shown

if TYPE_CHECKING:
    from server.fanout.continuity import Gap
    from server.streams.event import Event
    from server.web.state import WebRequest

USUAL_LIMIT: Final = 100
#: Of events; what they hold together is bounded too, by about a megabyte.
LARGEST_LIMIT: Final = 1000
#: What the address of the next page repeats. Anything else said nothing, and might make a header that proxies refuse.
_PARAMETERS: Final = ("order", "limit", "after", "before", "attempts")


async def history(request: WebRequest) -> Response:
    stream, query = stream_name_of(request), request.query_params
    is_backwards = _is_backwards(query.get("order"))
    asked = Range(
        limit=limit_of(query.get("limit"), usual=USUAL_LIMIT, most=LARGEST_LIMIT),
        after=_id(query.get("after"), "after"),
        before=_id(query.get("before"), "before"),
        all_attempts=flag(request, "attempts", "all"),
    )
    page = await (backwards if is_backwards else forwards)(request.state["log"], stream, asked)
    links = [stream_link(f"/streams/{stream}/events", [("last_event_id", str(page.newest))])]
    if page.next is not None:
        kept = {name: query.get(name, "") for name in _PARAMETERS}
        kept["before" if is_backwards else "after"] = str(page.next)
        links.insert(0, link(f"/streams/{stream}/history", kept.items(), rel="next"))
    return json_response(
        {
            "events": [event_json(event) for event in page.events],
            "gap": _gap_json(stream, page.gap),
            "next": str(page.next) if page.next is not None else None,
            "cursor": str(page.newest),
        },
        headers={"link": ", ".join(links)},
    )


def event_json(event: Event) -> dict[str, Any]:
    """An event as JSON. `data` is its text, as `event.data` is in a browser: whether it is JSON its type says."""
    time = rfc3339(str(event.at_ms)) if event.at_ms is not None else None
    return {"id": str(event.id), "type": event.type, "data": event.data, "time": time}


def _gap_json(stream: str, gap: Gap | None) -> dict[str, Any] | None:
    if gap is None:
        return None
    return {
        "stream": stream,
        "requested": str(gap.requested) if gap.requested is not None else None,
        "resumed_at": str(gap.resumed_at) if gap.resumed_at is not None else None,
        "missed": gap.missed,
    }


def _id(text: str | None, parameter: str) -> EventId | None:
    if not text:
        return None
    try:
        return parse_event_id(text)
    except InvalidCursor as error:
        raise Problem(400, f"{parameter!r} cannot be used: {error}") from None


def _is_backwards(order: str | None) -> bool:
    if order in {None, "", "asc", "desc"}:
        return order == "desc"
    raise Problem(400, f"'order' is {shown(order)}. Use asc or desc, or leave it out.")
