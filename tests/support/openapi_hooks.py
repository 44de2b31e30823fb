"""What Schemathesis is told besides the document: who asks, and what only the running installation knows.

Loaded by Schemathesis itself, by the name in tests/e2e/schemathesis.toml.
"""

from __future__ import annotations

import json
from typing import Any, cast
from zlib import crc32

import schemathesis
from schemathesis import HookContext, SerializationContext

from server.web.openapi.examples import TASK_ID

#: What the paths of event streams end with.
_STREAMS = ("/events", "/stream", "/system", "/execute", "/tasks")
_CURSORS = ("last_event_id", "lastEventId")
#: Whose input may be empty.
_TYPES = ("process", "flaky", "countdown")


@schemathesis.serializer("application/x-ndjson")
def lines(context: SerializationContext, value: object) -> bytes:
    """A document on each line."""
    events = cast("list[Any]", value) if isinstance(value, list) else [value]
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType] - the library leaves it open
def before_call(context: HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """Half of the requests for an event stream are those of an EventSource; half of the tasks have a type there is."""
    number = crc32(repr((case.path, case.path_parameters, case.query, case.body)).encode())
    if case.path.startswith("/stream/countdown") or (number % 2 and case.path.endswith(_STREAMS)):
        case.headers["Accept"] = "text/event-stream"
    _keep_one_place(case, number)
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


def _keep_one_place(case: Any, number: int) -> None:
    """As the document says in words: of several cursors one counts, and `from` and `last` do not go together."""
    if case.path_parameters.get("id") == TASK_ID:
        # Nobody knows this task; with a cursor the server waits for seconds, as it may be written back yet.
        case.headers.pop("Last-Event-ID", None)
        case.query = {name: value for name, value in case.query.items() if name not in _CURSORS}
    names = [name for name in _CURSORS if name in case.query]
    if names and "Last-Event-ID" in case.headers:
        if number % 2:
            del case.headers["Last-Event-ID"]
        else:
            case.query = {name: value for name, value in case.query.items() if name not in _CURSORS}
    if len(names) > 1:
        case.query.pop(names[number % 2], None)
    if case.query.get("from") and case.query.get("last"):
        del case.query["last"]


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
