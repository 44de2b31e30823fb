"""What the examples of the document show: one task, one stream, and what their answers look like.

Every one is held against its schema by a test.
"""

from __future__ import annotations

from typing import Any, Final

TASK_ID: Final = "jkd74vpwvp6k7ctnieg7lsw6"
_CREATED: Final = "2026-11-22T15:55:21.559Z"
_UPDATED: Final = "2026-11-22T15:55:23.101Z"

TASK: Final[dict[str, Any]] = {
    "id": TASK_ID,
    "type": "process",
    "title": "process",
    "queue": "default",
    "unique_key": None,
    "input": {},
    "status": "running",
    "attempt": 1,
    "progress": 40,
    "result": None,
    "error": None,
    "not_before": None,
    "workers": 1,
    "last_event_id": "1795362921771-2",
    "created_at": _CREATED,
    "updated_at": _UPDATED,
    "events_url": f"/tasks/{TASK_ID}/events",
}
#: As the answer to its creation has it: nobody has asked for workers yet.
NEW_TASK: Final = {
    **{name: value for name, value in TASK.items() if name != "workers"},
    "status": "pending",
    "attempt": 0,
    "progress": None,
    "last_event_id": None,
    "updated_at": _CREATED,
}
CANCELLED_TASK: Final = {**TASK, "status": "cancelled", "workers": None}

TASK_TYPES: Final = {
    "task_types": [
        {
            "name": "countdown",
            "description": "Count down the seconds.",
            "input_schema": {
                "type": "object",
                "properties": {"seconds": {"type": "integer", "minimum": 1, "maximum": 60}},
            },
            "queue": "default",
        }
    ]
}

DEAD_LETTER: Final[dict[str, Any]] = {
    "task_id": TASK_ID,
    "type": "process",
    "title": "process",
    "queue": "default",
    "attempts": 2,
    "error": "TimeoutError: no answer",
    "code": "task_failed",
    "created_at": _CREATED,
    "failed_at": "2026-11-22T15:55:24.101Z",
}
DEAD_LETTER_DETAILS: Final[dict[str, Any]] = {
    **DEAD_LETTER,
    "input": {},
    "errors": [
        {
            "attempt": 1,
            "error": "The worker w-1f2e was lost.",
            "code": "worker_lost",
            "at": "2026-11-22T15:55:22.301Z",
        },
        {
            "attempt": 2,
            "error": "TimeoutError: no answer",
            "code": "task_failed",
            "at": "2026-11-22T15:55:24.100Z",
        },
    ],
}

STREAM: Final = {
    "name": "chat.42",
    "first_id": "1795343970123-0",
    "last_id": "1795343970123-57",
    "length": 58,
    "bytes": 9120,
    "closed": False,
    "expires_in_seconds": 86399,
    "retention": {"max_events": 10000, "max_bytes": 67108864, "ttl_seconds": 86400, "keep": "all"},
    "events_url": "/streams/chat.42/events",
}
HISTORY: Final = {
    "events": [{"id": "1795343970123-56", "type": "note", "data": '{"text":"Hello"}', "time": _CREATED}],
    "gap": None,
    "next": "1795343970123-56",
    "cursor": "1795343970123-56",
}

TASK_STREAM: Final = """retry: 2114
: reprise

id: 1795343970123-56
event: attempt
data: {"attempt":1,"reason":"started","error":null,"resume_from":null}

id: 1795343970123-57
event: token
data: {"text":"Hello"}

"""
OPEN_STREAM: Final = """retry: 2114
: reprise

id: 1795343970123-57
event: note
data: {"text":"Hello"}

"""
_UPDATE: Final = '{"task_id":"jkd74vpwvp6k7ctnieg7lsw6","type":"process","status":"running","progress":40,"attempt":1}'
TASKS_STREAM: Final = f"""retry: 2114
: reprise

id: 1795343970123-57
event: task_update
data: {_UPDATE}

"""
SYSTEM_STREAM: Final = """retry: 2114
: reprise

id: 1795343970123-57
event: info
data: {"message":"A server has started."}

"""
SEVERAL_STREAM: Final = """retry: 2114
: reprise

id: chat.42:1795343970123-57,system:1795343969001-3
event: note
data: {"text":"Hello"}

id: system:1795343969001-4,chat.42:1795343970123-57
event: info
data: {"message":"A server has started."}

"""
COUNTDOWN_STREAM: Final = """retry: 2114
: reprise

id: tasks.k5x2wq:0-0
event: position
data: {}

id: tasks.k5x2wq:1795343970123-1
event: tick
data: {"remaining":10}

"""

_TOKEN: Final = {"id": "1795343970123-57", "type": "token", "data": '{"text":"Hello"}'}
TASK_POLL: Final = {"events": [_TOKEN], "cursor": "1795343970123-57", "gap": None, "more": False, "ended": False}
OPEN_POLL: Final = {**TASK_POLL, "events": [{**_TOKEN, "type": "note"}]}
TASKS_POLL: Final = {
    **TASK_POLL,
    "events": [{**_TOKEN, "type": "task_update", "data": _UPDATE}],
}
SYSTEM_POLL: Final = {
    **TASK_POLL,
    "events": [{**_TOKEN, "type": "info", "data": '{"message":"A server has started."}'}],
}
_SEVERAL: Final = "chat.42:1795343970123-57,system:1795343969001-3"
SEVERAL_POLL: Final = {
    "events": [{"stream": "chat.42", **_TOKEN, "id": _SEVERAL, "type": "note"}],
    "cursor": _SEVERAL,
    "gap": None,
    "more": False,
    "ended": False,
}
_TICK: Final = "tasks.k5x2wq:1795343970123-1"
COUNTDOWN_POLL: Final = {
    "events": [{"stream": "tasks.k5x2wq", "id": _TICK, "type": "tick", "data": '{"remaining":10}'}],
    "cursor": _TICK,
    "gap": None,
    "more": False,
    "ended": False,
}
