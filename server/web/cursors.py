"""Where a request wants to begin (its cursor, or one of the named places), and what it wants to see.

A browser repeats its first URL on every reconnect and adds the header, so the header is always newer. What does not
parse is refused here, before a stream is opened: guessing would hide events or repeat them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from server.fanout import Manner, Start
from server.fanout.framed import Types, shown_types
from server.fanout.start import USUAL
from server.streams.cursor import parse_composite
from server.streams.errors import InvalidCursor
from server.streams.ids import parse_event_id
from server.web.moments import moment_ms
from server.web.problems import Problem, shown
from server.web.requests import AnyRequest, single_header

#: A composite cursor has 32 names at most, of 2048 characters together, and an id of at most 41 with each.
_LONGEST_CURSOR: Final = 4096
_QUERY_NAMES: Final = frozenset({"last_event_id", "lastEventId"})
_COUNT: Final = re.compile(r"[1-9][0-9]{0,5}")
#: Up to the year 33658, as in the log: more than any clock gives.
_MILLISECONDS: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_LOST_PLUS: Final = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)")
#: Of one request: more than a page has listeners for.
MOST_TYPES: Final = 64


def cursor_text(request: AnyRequest) -> str | None:
    """The cursor as it was sent; None if there is none.

    Raises `InvalidCursor` if it is too long to be one, and `Problem` if there are several headers.
    """
    given = [value for name, value in request.query_params.multi_items() if name in _QUERY_NAMES and value]
    text = single_header(request, "Last-Event-ID") or next(iter(given[-1:]), None)
    if text is not None and len(text) > _LONGEST_CURSOR:
        raise InvalidCursor(
            f"The cursor {shown(text)} has {len(text)} characters; none is longer than {_LONGEST_CURSOR}. "
            "Send back an id exactly as it was received."
        )
    return text


def start_of(request: AnyRequest) -> Start:
    """Where the reader of one stream begins. Raises `InvalidCursor`, and `Problem` for the other parameters."""
    text = cursor_text(request)
    return replace(start_of_parameters(request), cursor=parse_event_id(text) if text is not None else None)


def starts_of(request: AnyRequest, streams: Sequence[str]) -> dict[str, Start]:
    """Where the reader of several streams begins in each: a cursor beats the rest where it names the stream.

    Raises `InvalidCursor`, also for a cursor that names another stream, and `Problem` for the other parameters.
    """
    parameters, text = start_of_parameters(request), cursor_text(request)
    positions = parse_composite(text, streams) if text is not None else {}
    return {stream: replace(parameters, cursor=positions.get(stream)) for stream in streams}


def start_of_parameters(request: AnyRequest) -> Start:
    """The same without the cursor, for endpoints with cursors of another form."""
    at, last, since_ms = _place(request), _last(request), _since(request)
    if sum(each is not None for each in (at, last, since_ms)) > 1:
        raise Problem(400, "'from', 'last' and 'since' each name a place to begin at. Use one of them.")
    return Start(
        at=at,
        last=last,
        since_ms=since_ms,
        all_attempts=flag(request, "attempts", "all"),
        is_compact=flag(request, "compact", "true", unless="false"),
    )


def manner_of(request: AnyRequest) -> Manner:
    """What the reader wants to see. Raises `Problem` and `InvalidInput`."""
    found = Manner(types=_types(request), heartbeat_events=flag(request, "heartbeat", "event"))
    return USUAL if found == USUAL else found  # kept as long as the connection: most share one


def _types(request: AnyRequest) -> Types | None:
    given = set(request.query_params.getlist("type"))
    if len(given) > MOST_TYPES:
        raise Problem(400, f"There are {len(given)} types. Ask for {MOST_TYPES} at most, or for all: without 'type'.")
    return shown_types(given) if given else None


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


def _since(request: AnyRequest) -> int | None:
    value = request.query_params.get("since")
    if not value:
        return None
    # In a query an unescaped plus is a space.
    moment = int(value) if _MILLISECONDS.fullmatch(value) else moment_ms(_LOST_PLUS.sub("+", value))
    if moment is not None:
        return moment
    raise Problem(
        400,
        f"'since' is {shown(value)}. Use a time with its offset from UTC, such as 2026-11-26T18:30:00Z, "
        "or milliseconds since 1970.",
    )


def flag(request: AnyRequest, name: str, expected: str, *, unless: str = "") -> bool:
    """Whether the query says this of the parameter, of which there is nothing else to say. Raises `Problem`.

    `unless` says the same as leaving it out: what programs write that make a query of a boolean.
    """
    value = request.query_params.get(name)
    if not value or value == unless:
        return False
    if value != expected:
        ways = f"{expected} or {unless}" if unless else expected
        raise Problem(400, f"{name!r} is {shown(value)}. Use {ways}, or leave it out.")
    return True
