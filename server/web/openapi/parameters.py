"""What a request says beside its body: parts of the path, of the query, and headers.

`STARTING` is what every event stream takes; a parameter that is added to it is told of all of them.
"""

from __future__ import annotations

from typing import Any, Final

from server.streams.event import TYPE
from server.streams.names import NAME
from server.web.countdown import MOST_SECONDS
from server.web.cursors import MOST_TYPES
from server.web.follow import LONGEST_NAMES, MOST_STREAMS
from server.web.open_streams.history import LARGEST_LIMIT, USUAL_LIMIT
from server.web.openapi.operation import Told
from server.web.openapi.records import COMPOSITE_ID, ID, TASK_CURSOR
from server.web.openapi.shapes import Schema, array, integer, number, ref, text
from server.web.paging import LARGEST_PAGE, LIST_CURSOR, USUAL_PAGE
from server.web.poll import LONGEST_WAIT_SECONDS


def in_path(name: str, description: str, schema: Schema) -> Told:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def in_query(name: str, description: str, schema: Schema) -> Told:
    """An empty value counts as none, here as in the server."""
    return {"name": name, "in": "query", "description": description, "schema": schema, "allowEmptyValue": True}


def repeated(name: str, description: str, items: Schema, *, required: bool = False, **rules: Any) -> Told:
    """A parameter of the query that may be there several times. None of its values is empty."""
    schema = array(items, "", **rules)
    told: Told = {"name": name, "in": "query", "description": description, "schema": schema}
    return {**told, "required": True} if required else told


def in_header(name: str, description: str, schema: Schema) -> Told:
    return {"name": name, "in": "header", "description": description, "schema": schema}


TASK_ID: Final = in_path(
    "id", "The id of the task.", text(pattern=r"^[A-Za-z0-9._-]{1,122}$", examples=["jkd74vpwvp6k7ctnieg7lsw6"])
)
STREAM_NAME: Final = in_path("name", "The name of the stream.", ref("StreamName"))
SECONDS: Final = in_path("seconds", "How long, without leading zeros.", integer(minimum=1, maximum=MOST_SECONDS))

IDEMPOTENCY_KEY: Final = in_header(
    "Idempotency-Key",
    "Makes repeating harmless: the same key with the same request gives the first answer again, with another request "
    "409. 1 to 255 printable ASCII characters; sent always, and once.",
    text(pattern=r"^[!-~]([ -~]{0,253}[!-~])?$", examples=["7d0a11"]),
)

_CURSOR: Final = "Everything after this event: an id, exactly as it was received."
_CURSOR_IN_QUERY: Final = f"{_CURSOR} For the first connection of a page; the header `Last-Event-ID` beats it."


def _cursors(form: str, example: str) -> tuple[Told, ...]:
    schema = text(pattern=f"^({form})?$", examples=[example])
    return (
        in_header(
            "Last-Event-ID", f"{_CURSOR} Browsers send it when they reconnect. An empty one is none; sent once.", schema
        ),
        in_query("last_event_id", f"{_CURSOR_IN_QUERY} The last one that is not empty counts.", schema),
        in_query("lastEventId", f"{_CURSOR_IN_QUERY} The same as `last_event_id`.", schema),
    )


#: Digits, as `cursors` reads them.
_MOST_LAST: Final = 999_999
_MOST_MILLISECONDS: Final = 999_999_999_999_999
_BEATEN: Final = "A cursor beats it; of `from`, `last` and `since` one at most."
#: Where a reader begins, but for its cursor. One has values to be taken as an example: programs that make requests of
#: examples combine all there are, and the server refuses two of these.
_PLACE: Final = (
    in_query("from", f"The beginning, or from now on. {_BEATEN}", text(enum=["earliest", "latest"])),
    in_query("last", f"The newest so many events. {_BEATEN}", integer(minimum=1, maximum=_MOST_LAST)),
    in_query(
        "since",
        "What happened from then on: a time with its offset from UTC (ISO 8601: `2026-11-26T18:30:00Z`), or ms since "
        f"1970. {_BEATEN}",
        {"anyOf": [text(format="date-time"), integer(minimum=0, maximum=_MOST_MILLISECONDS)]},
    ),
)
#: What a reader wants to see.
_WHAT: Final = (
    repeated(
        "type",
        "Events of these types only. Those of Reprise's own types always pass, and so does the end of a stream.",
        text(pattern=f"^{TYPE.pattern}$", examples=["token"]),
        maxItems=MOST_TYPES,
    ),
    in_query(
        "compact",
        "What is there already in fewer events: pieces of a text joined, of each `key` the latest. Every id is a "
        "cursor as ever.",
        text(enum=["true", "false"]),
    ),
    in_query("attempts", "Also what earlier attempts of a task wrote and a later one made void.", text(enum=["all"])),
    in_query("heartbeat", "Heartbeats as events, which a page can see, instead of comments.", text(enum=["event"])),
)
_WAIT: Final = in_query(
    "wait",
    "With `Accept: application/json`: how many seconds to wait for something to tell, at most, with up to three "
    "decimals; 0 if left out. What is stored is looked through all the same, for some seconds: see `more`.",
    number(minimum=0, maximum=LONGEST_WAIT_SECONDS, multipleOf=0.001),
)

#: What a request takes that starts something, and so has no cursor yet; its answer is JSON or a stream, never a poll.
STARTING: Final = (*_PLACE, *_WHAT)
#: The same where it may have one.
RESUMING: Final = (*_cursors(ID, "1795343970123-57"), *STARTING)
#: What the event stream of one stream takes.
FOLLOWING: Final = (*RESUMING, _WAIT)
#: The same where ids name the stream of a task.
FOLLOWING_BY_NAME: Final = (*_cursors(TASK_CURSOR, "tasks.k5x2wq:1795343970123-57"), *STARTING, _WAIT)
#: The same of several streams.
FOLLOWING_SEVERAL: Final = (
    repeated(
        "stream",
        f"The streams, of any kind. One that is named twice counts once. All names together have {LONGEST_NAMES} "
        "characters at most.",
        ref("StreamName"),
        required=True,
        minItems=1,
        maxItems=MOST_STREAMS,
        examples=[["chat.42", "system"]],
    ),
    *_cursors(COMPOSITE_ID, "chat.42:1795343970123-57,system:1795343969001-3"),
    *STARTING,
    _WAIT,
)

LIMIT: Final = in_query(
    "limit", f"How many at most; {USUAL_PAGE} if left out.", integer(minimum=1, maximum=LARGEST_PAGE)
)
_NEXT: Final = "The `next` of the page before, as it was received."
PAGE_CURSOR: Final = in_query("cursor", _NEXT, text(pattern=f"^{LIST_CURSOR.pattern}$"))
NAME_CURSOR: Final = in_query("cursor", _NEXT, ref("StreamName"))
PREFIX: Final = in_query("prefix", "What the names begin with.", text(pattern=f"^{NAME.pattern}$"))

HISTORY_LIMIT: Final = in_query(
    "limit",
    f"How many events at most; {USUAL_LIMIT} if left out. A page of large events is shorter.",
    integer(minimum=1, maximum=LARGEST_LIMIT),
)
ORDER: Final = in_query("order", "Oldest first if left out, or newest first.", text(enum=["asc", "desc"]))
AFTER: Final = in_query("after", "Events after this id.", ref("EventId"))
BEFORE: Final = in_query("before", "Events before this id.", ref("EventId"))
ALL_ATTEMPTS: Final = in_query("attempts", "Of a task: also what a later attempt made void.", text(enum=["all"]))
