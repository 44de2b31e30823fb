"""The schemas with a name: what answers hold and what requests may hold. Those of events that are read: `reading`.

Bounds are those of the code that checks requests. That answers have these members and no others is tested with real
ones, so that a member that is added to an answer has to be told here.
"""

from __future__ import annotations

from typing import Final

from server.streams.event import RESERVED_TYPES, TYPE
from server.streams.marks import LONGEST_KEY
from server.streams.names import NAME, QUEUE
from server.streams.outbox import MAX_BATCH_EVENTS
from server.streams.records import Status
from server.streams.retention import KEEPS, LONGEST_TTL_SECONDS, MOST_EVENTS
from server.web import new_task
from server.web.open_streams.drafts import USUAL_TYPE
from server.web.openapi.reading import READING
from server.web.openapi.shapes import (
    BOOLEAN,
    Schema,
    answered,
    array,
    asked,
    integer,
    moment,
    nullable,
    number,
    ref,
    text,
)

#: Up to 19 digits, and the number that stands for the end of the generation before: no id that is sent has others.
_HALF: Final = "(0|[1-9][0-9]{0,18}|18446744073709551614)"
ID: Final = f"{_HALF}-{_HALF}"
#: That of a countdown, which is a task's.
TASK_CURSOR: Final = rf"tasks\.[A-Za-z0-9._-]{{1,122}}:{ID}"
COMPOSITE_ID: Final = f"{NAME.pattern}:{ID}(,{NAME.pattern}:{ID})*"
#: Where a task that is shown may stand.
STATUSES: Final = [status.value for status in Status if status is not Status.DELETED]
_OBJECT: Final[Schema] = {"type": "object"}


def _both(*names: str) -> Schema:
    """Objects in which all of these say something."""
    return {"required": list(names), "properties": {name: {"not": {"type": "null"}} for name in names}}


def _unexecuted(name: str) -> Schema:
    """Objects that ask for a time, and for not being run at all."""
    both = _both("execute", name)
    return {**both, "properties": {**both["properties"], "execute": {"const": False}}}


_NAMES: Final[dict[str, Schema]] = {
    "EventId": text(
        "Where an event stands in its stream. Opaque: it is kept and sent back as it came. `0-0` is the position "
        "before the first event of any stream.",
        pattern=f"^{ID}$",
        examples=["1795343970123-57"],
    ),
    "CompositeId": text(
        "An id that names its stream, or a position for each of several.",
        pattern=f"^{COMPOSITE_ID}$",
        examples=["tasks.k5x2wq:1795343970123-57"],
    ),
    "StreamName": text(
        "1 to 128 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit. `system`, `tasks` and `tasks.…` are "
        "Reprise's: everybody may read them, and only Reprise changes them.",
        pattern=f"^{NAME.pattern}$",
        examples=["chat.42"],
    ),
    "Problem": answered(
        "A refusal (RFC 9457).",
        {
            "type": text("`about:blank`: the status says what kind it is.", format="uri-reference"),
            "title": text("The words of the status."),
            "status": integer(minimum=400, maximum=599),
            "detail": text("A sentence for a person: what is wrong, and the way out."),
            "errors": array(
                answered(
                    "One thing that is wrong.",
                    {
                        "pointer": text("A JSON Pointer into the body, as a URI fragment (RFC 6901, section 6)."),
                        "detail": text(),
                    },
                ),
                "Each member of the body that is wrong.",
            ),
            "code": text(
                "Of a 503: it has been done, but not as durably as it has to be; or Redis refused it, or must not be "
                "used as it is set up, and it has not.",
                enum=["not_durable", "not_stored"],
            ),
            "reasons": array(text(), "Of a server that is not ready: why."),
        },
        optional=("errors", "code", "reasons"),
    ),
}

_TASKS: Final[dict[str, Schema]] = {
    "Task": answered(
        "A unit of work, run by a worker.",
        {
            "id": text(),
            "type": text("A name from `/task-types`."),
            "title": text("What it is called in lists."),
            "queue": text("Where it waits for a worker."),
            "unique_key": nullable(text("While it has not ended no other task of its type has this key.")),
            "input": _OBJECT,
            "status": text(enum=STATUSES),
            "attempt": integer("How often it was begun.", minimum=0),
            "progress": nullable(number("A percentage; null until it tells one.")),
            "result": {"description": "Of a completed one."},
            "error": nullable(text("Of a failed one, or of the last attempt of one that is tried again.")),
            "not_before": nullable(moment("Until when a pending one waits.")),
            "workers": nullable(
                integer(
                    "How many live workers could run it; null once it has ended. Not in the answer to `POST /tasks`.",
                    minimum=0,
                )
            ),
            "last_event_id": nullable(ref("EventId")),
            "created_at": nullable(moment()),
            "updated_at": nullable(moment()),
            "events_url": text("Its event stream.", format="uri-reference"),
        },
        optional=("workers",),
    ),
    "TaskList": answered(
        "Newest first.", {"tasks": array(ref("Task")), "next": nullable(text("The `cursor` of the next page."))}
    ),
    "TaskTypes": answered(
        "What workers that are alive offer.",
        {
            "task_types": array(
                answered(
                    "A type.",
                    {
                        "name": text(),
                        "description": text(),
                        "input_schema": {**_OBJECT, "description": "JSON Schema, 2020-12, of the input."},
                        "queue": text("Where its tasks go unless the request says otherwise."),
                    },
                )
            )
        },
    ),
    "NewTask": asked(
        "A task to be created. `delay` and `not_before` are not both there, and neither with `execute: false`.",
        {
            "type": text("A name from `/task-types`.", minLength=1),
            "input": {**_OBJECT, "description": "What fits the schema of the type; `{}` if left out."},
            "title": nullable(
                text(
                    "What to call it in lists, without control characters; the type's name if left out.",
                    minLength=1,
                    maxLength=new_task.LONGEST_TITLE,
                )
            ),
            "execute": {**BOOLEAN, "default": True, "description": "`false` creates it without running it."},
            "queue": nullable(text("That of the type if left out.", pattern=f"^{QUEUE.pattern}$")),
            "delay": nullable(
                number("Begin so many seconds from now.", minimum=0, maximum=new_task.LONGEST_DELAY_SECONDS)
            ),
            "not_before": nullable(
                text(
                    "Or not before a time: ISO 8601 with its offset from UTC, at most 366 days away.",
                    examples=["2026-11-26T18:30:00+01:00"],
                )
            ),
            "unique_key": nullable(
                text(
                    "While a task of this type with this key has not ended, the answer is that task.",
                    minLength=1,
                    maxLength=new_task.LONGEST_KEY,
                )
            ),
        },
        required=("type",),
        **{"not": {"anyOf": [_both("delay", "not_before"), _unexecuted("delay"), _unexecuted("not_before")]}},
    ),
    "Rerun": asked(
        "Which attempt is to be followed by another run.",
        {
            "rerun_of": nullable(
                integer(
                    "The newest `attempt` of an ended task: it runs again. Otherwise the request joins.",
                    minimum=0,
                    maximum=2**31 - 1,
                )
            )
        },
    ),
}

_DEAD_LETTER: Final[dict[str, Schema]] = {
    "task_id": text(),
    "type": text(),
    "title": text(),
    "queue": text(),
    "attempts": integer("How often it was begun.", minimum=0),
    "error": nullable(text("What the last attempt failed with.")),
    "code": nullable(text("What kind of error that was.")),
    "created_at": nullable(moment()),
    "failed_at": nullable(moment()),
}

_DEAD_LETTERS: Final[dict[str, Schema]] = {
    "DeadLetter": answered("A task that was given up.", _DEAD_LETTER),
    "DeadLetterDetails": answered(
        "A task that was given up, with its input and every attempt's error.",
        {
            **_DEAD_LETTER,
            "input": _OBJECT,
            "errors": array(
                answered(
                    "How an attempt failed.",
                    {"attempt": integer(), "error": text(), "code": text(), "at": moment()},
                ),
                "Oldest first.",
            ),
        },
    ),
    "DeadLetterList": answered(
        "Newest first.",
        {"dead_letters": array(ref("DeadLetter")), "next": nullable(text("The `cursor` of the next page."))},
    ),
}

_TTL: Final = "How many seconds events are kept after the newest."

_STREAMS: Final[dict[str, Schema]] = {
    "Stream": answered(
        "A stream.",
        {
            "name": ref("StreamName"),
            "first_id": nullable(ref("EventId")),
            "last_id": nullable(ref("EventId")),
            "length": integer("How many events are kept.", minimum=0),
            "bytes": nullable(integer("About what it occupies in Redis; null before its first event.", minimum=0)),
            "closed": BOOLEAN,
            "expires_in_seconds": nullable(integer(minimum=0)),
            "retention": answered(
                "What it keeps.",
                {
                    "max_events": nullable(integer(minimum=1)),
                    "max_bytes": nullable(integer(minimum=1)),
                    "ttl_seconds": nullable(number(_TTL)),
                    "keep": text(enum=list(KEEPS)),
                },
            ),
            "events_url": text("Its event stream.", format="uri-reference"),
        },
    ),
    "StreamList": answered(
        "By name.", {"streams": array(ref("Stream")), "next": nullable(text("The `cursor` of the next page."))}
    ),
    "StreamSettings": asked(
        "Settings of a stream's own. With `keep: latest` one event is kept, and `max_events` is left out.",
        {
            "max_events": nullable(integer("How many events are kept, exactly.", minimum=1, maximum=MOST_EVENTS)),
            "ttl_seconds": nullable(number(_TTL, minimum=1, maximum=LONGEST_TTL_SECONDS)),
            "keep": {"description": "`latest`: only the newest event.", "enum": [*KEEPS, None]},
        },
        **{
            "not": {
                "required": ["keep", "max_events"],
                "properties": {"keep": {"const": "latest"}, "max_events": {"type": "integer"}},
            }
        },
    ),
    "End": asked("The end of a stream.", {"result": {"description": "What `complete` has as its `result`."}}),
    "NewEvent": {
        "description": "An event to be published.",
        "anyOf": [
            asked(
                "An event. It has one of these members at least.",
                {
                    "type": ref("NewEventType"),
                    "data": {
                        "description": "Text is delivered as it stands, its line ends as LF and without NUL; anything "
                        "else as compact JSON. `null` if left out.",
                    },
                    "key": text(
                        "Of events with the same key the latest says it all. Printable characters.",
                        minLength=1,
                        maxLength=LONGEST_KEY,
                    ),
                },
                minProperties=1,
            ),
            asked(
                "A text that continues that of the event before it, if that has the same type and `append` too.",
                {"type": ref("NewEventType"), "append": text("Without NUL.")},
                required=("append",),
            ),
        ],
    },
    "NewEventType": text(
        f"`{USUAL_TYPE}` if left out; none of Reprise's own.",
        pattern=f"^{TYPE.pattern}$",
        examples=["note"],
        **{"not": {"enum": sorted(RESERVED_TYPES)}},
    ),
    "NewEvents": {
        "description": "One event, or several.",
        "anyOf": [
            ref("NewEvent"),
            array(
                ref("NewEvent"), "All are stored, one behind the other, or none.", minItems=1, maxItems=MAX_BATCH_EVENTS
            ),
        ],
    },
    "EventIds": answered("The ids of the events, in their order.", {"ids": array(ref("EventId"), minItems=1)}),
    "EventIdOf": answered("The id of an event.", {"id": ref("EventId")}),
}

SCHEMAS: Final[dict[str, Schema]] = {**_NAMES, **_TASKS, **_DEAD_LETTERS, **_STREAMS, **READING}
