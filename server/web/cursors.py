"""Where a request wants to begin: its cursor, or one of the named places.

A browser repeats its first URL on every reconnect and adds the header, so the header is always newer. What does not
parse is refused here, before a stream is opened: guessing would hide events or repeat them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, Literal

from server.fanout import Start
from server.streams.errors import InvalidCursor
from server.streams.ids import parse_event_id
from server.web.problems import Problem, shown
from server.web.requests import AnyRequest

#: A composite cursor has 32 names at most, of 2048 characters together, and an id of at most 41 with each.
_LONGEST_CURSOR: Final = 4096
_QUERY_NAMES: Final = frozenset({"last_event_id", "lastEventId"})
_COUNT: Final = re.compile(r"[1-9][0-9]{0,5}")


def cursor_text(request: AnyRequest) -> str | None:
    """The cursor as it was sent; None if there is none. Raises `InvalidCursor` if it is too long to be one."""
    given = [value for name, value in request.query_params.multi_items() if name in _QUERY_NAMES and value]
    text = request.headers.get("last-event-id") or (given[-1] if given else None)
    if text is not None and len(text) > _LONGEST_CURSOR:
        raise InvalidCursor(
            f"The cursor {shown(text)} has {len(text)} characters; none is longer than {_LONGEST_CURSOR}. "
            "Send back an id exactly as it was received."
        )
    return text


def start_of(request: AnyRequest) -> Start:
    """Where and how the reader of one stream begins. Raises `InvalidCursor`, and `Problem` for the other parameters."""
    text = cursor_text(request)
    return replace(start_of_parameters(request), cursor=parse_event_id(text) if text is not None else None)


def start_of_parameters(request: AnyRequest) -> Start:
    """The same without the cursor, for endpoints with cursors of another form."""
    at, last = _place(request), _last(request)
    if at and last:
        raise Problem(400, "'from' and 'last' name two places to begin at. Use one of them.")
    return Start(
        at=at,
        last=last,
        all_attempts=_flag(request, "attempts", "all"),
        heartbeat_events=_flag(request, "heartbeat", "event"),
    )


def _place(request: AnyRequest) -> Literal["earliest", "latest"] | None:
    value = request.query_params.get("from")
    if not value:
        return None
    if value == "earliest":
        return "earliest"
    if value == "latest":
        return "latest"
    raise Problem(400, f"'from' is {shown(value)}. Use earliest or latest, or leave it out.")


def _last(request: AnyRequest) -> int | None:
    value = request.query_params.get("last")
    if not value:
        return None
    if _COUNT.fullmatch(value):
        return int(value)
    raise Problem(400, f"'last' is {shown(value)}. Use a number of events from 1 to 999999.")


def _flag(request: AnyRequest, name: str, expected: str) -> bool:
    value = request.query_params.get(name)
    if value and value != expected:
        raise Problem(400, f"{name!r} is {shown(value)}. Use {expected}, or leave it out.")
    return bool(value)
