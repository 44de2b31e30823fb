"""What Schemathesis is told besides the document: who asks, and what only the running installation knows.

Loaded by Schemathesis itself, by the name in tests/e2e/schemathesis.toml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, cast
from zlib import crc32

import schemathesis
from schemathesis import HookContext, SerializationContext

from server.web.follow import LONGEST_NAMES
from server.web.openapi.examples import TASK_ID
from server.web.openapi.records import COMPOSITE_ID, ID

#: What the paths of event streams end with.
_STREAMS = ("/events", "/stream", "/system")
_STARTING = ("/execute", "/tasks")
_EVENT_STREAM, _JSON = "text/event-stream", "application/json"
_HEADER = "Last-Event-ID"
_CURSORS = ("last_event_id", "lastEventId")
_PLACES = ("from", "last", "since")
_LISTS = ("stream", "type")
_IS_CURSOR = re.compile(f"{ID}|{COMPOSITE_ID}")
_ID_ALONE = re.compile(r"(?<![^:])[0-9]+-[0-9]+(?![^,])")
#: Whose input may be empty.
_TYPES = ("process", "flaky", "countdown")


@schemathesis.serializer("application/x-ndjson")
def lines(context: SerializationContext, value: object) -> bytes:
    """A document on each line."""
    events = cast("list[Any]", value) if isinstance(value, list) else [value]
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType] - the library leaves it open
def before_call(context: HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """An event stream is asked for in each of its forms; half of the tasks have a type there is."""
    number = crc32(repr((case.path, case.path_parameters, case.query, case.body)).encode())
    case.query = {name: _as_it_counts(name, value) for name, value in case.query.items()}
    _keep_one_place(case, number)
    if case.path == "/events":
        _name_what_is_asked_for(case)
    if accept := _accepted(case, number):
        case.headers["Accept"] = accept
    if accept == _JSON:
        _wait_for_nothing(case)
    body: object = case.body
    if case.path == "/tasks" and isinstance(body, dict) and number % 4 < 2:
        _name_a_type(cast("dict[str, Any]", body), _TYPES[number % 3])
    if case.path == "/streams/{name}/events":
        events = cast("list[object]", body if isinstance(body, list) else [body])
        for event in events:
            _mend(event)


def _name_a_type(body: dict[str, Any], name: str) -> None:
    if isinstance(body.get("type"), str):
        body["type"] = name
        body["input"] = {}


def _accepted(case: Any, number: int) -> str | None:
    """The form of the answer: the one in which the parameters count, or any."""
    if case.path.startswith("/stream/countdown"):
        has_cursor = case.headers.get(_HEADER) or any(case.query.get(name) for name in _CURSORS)
        return _JSON if has_cursor and "wait" in case.query else _EVENT_STREAM
    if case.path.endswith(_STARTING):
        return _EVENT_STREAM if number % 2 or (case.method == "POST" and case.query) else None
    if case.path.endswith(_STREAMS) and case.method != "POST":
        return _JSON if "wait" in case.query else (_EVENT_STREAM, _JSON, None)[number % 3]
    return None


def _wait_for_nothing(case: Any) -> None:
    """Nobody writes meanwhile, and what a log lacks is waited for: other waits and cursors show nothing else."""
    _map_cursors(case, lambda cursor: _ID_ALONE.sub("0-0", cursor) if _IS_CURSOR.fullmatch(cursor) else cursor)
    try:
        seconds = float(case.query.get("wait", ""))
    except (TypeError, ValueError):
        return
    if 0 <= seconds <= 60 and abs(seconds - round(seconds, 3)) < 1e-9:
        case.query = {**case.query, "wait": min(0.01, round(seconds, 3))}


def _map_cursors(case: Any, change: Callable[[str], str]) -> None:
    for name in _CURSORS:
        if isinstance(cursor := case.query.get(name), str):
            case.query = {**case.query, name: change(cursor)}
    if isinstance(cursor := case.headers.get(_HEADER), str):
        case.headers[_HEADER] = change(cursor)


def _as_it_counts(name: str, value: object) -> object:
    """Of a parameter that is there several times the last counts; of a list what is named twice counts once."""
    if not isinstance(value, list):
        return value
    values = cast("list[object]", value)
    if name in _LISTS:
        return _distinct(values)
    return values[-1] if values and isinstance(values[-1], str | int | float) else values


def _distinct(values: list[object]) -> list[object]:
    """The same number of them, each another, so that too many are too many."""
    seen: set[object] = set()
    found: list[object] = []
    for number, value in enumerate(values):
        found.append(f"{value}{number}" if isinstance(value, str) and value in seen else value)
        if isinstance(value, str):
            seen.add(value)
    return found


def _name_what_is_asked_for(case: Any) -> None:
    """As the document says in words: a cursor names streams of the request, and the names have a size together."""
    asked: object = case.query.get("stream")
    if not isinstance(asked, list):
        return
    streams = [each for each in cast("list[object]", asked) if isinstance(each, str)]
    if len(streams) < len(cast("list[object]", asked)):
        return
    while sum(map(len, set(streams))) > LONGEST_NAMES:
        streams.pop()
    case.query = {**case.query, "stream": streams}

    def named(cursor: str) -> str:
        if not re.fullmatch(COMPOSITE_ID, cursor):
            return cursor
        ids = [part.rpartition(":")[2] for part in cursor.split(",")]
        return ",".join(f"{stream}:{id_}" for stream, id_ in zip(dict.fromkeys(streams), ids, strict=False)) or cursor

    _map_cursors(case, named)


def _keep_one_place(case: Any, number: int) -> None:
    """As the document says in words: of several cursors one counts, and of several places to begin none."""
    if case.path_parameters.get("id") == TASK_ID:
        # Nobody knows this task; with a cursor the server waits for seconds, as it may be written back yet.
        case.headers.pop(_HEADER, None)
        case.query = {name: value for name, value in case.query.items() if name not in _CURSORS}
    names = [name for name in _CURSORS if name in case.query]
    if names and _HEADER in case.headers:
        if number % 2:
            del case.headers[_HEADER]
        else:
            case.query = {name: value for name, value in case.query.items() if name not in _CURSORS}
    if len(names) > 1:
        case.query.pop(names[number % 2], None)
    places = [name for name in _PLACES if case.query.get(name)]
    for name in places:
        if name != places[number % len(places)]:
            del case.query[name]


def _mend(event: object) -> None:
    """As the document says in words: keys are printable, and text has no NUL."""
    if not isinstance(event, dict):
        return
    members = cast("dict[str, Any]", event)
    for name in ("data", "append"):
        if isinstance(text := members.get(name), str):
            members[name] = text.replace("\0", "")
    if isinstance(key := members.get("key"), str) and key:
        members["key"] = "".join(each if each.isprintable() else "-" for each in key)
