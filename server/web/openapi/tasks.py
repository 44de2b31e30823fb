"""The operations on tasks: starting, listing, following and cancelling them."""

from __future__ import annotations

from typing import Final

from server.web.openapi import examples, parameters
from server.web.openapi.answers import answer, followed, located, monitored, nothing, problems, started_stream
from server.web.openapi.operation import Operation, body
from server.web.openapi.parameters import in_query
from server.web.openapi.records import STATUSES
from server.web.openapi.shapes import ref, text

_TAG: Final = "Tasks"
_NO_TASK: Final = "There is no such task."
_OVER: Final = "The reader has had the last event, or the task was deleted."

TYPES: Final = Operation(
    method="get",
    path="/task-types",
    id="list_task_types",
    tag=_TAG,
    summary="What there is to run",
    description="What workers that are alive offer.",
    answers={200: answer("The types, by name.", "TaskTypes", examples.TASK_TYPES), **problems()},
)

LIST: Final = Operation(
    method="get",
    path="/tasks",
    id="list_tasks",
    tag=_TAG,
    summary="List tasks, newest first",
    parameters=(
        parameters.LIMIT,
        parameters.PAGE_CURSOR,
        in_query("status", "Only those that stand so.", text(enum=STATUSES)),
        in_query("type", "Only those of this type.", text()),
    ),
    answers={200: answer("A page.", "TaskList", {"tasks": [examples.TASK], "next": None}), **problems(400)},
)

CREATE: Final = Operation(
    method="post",
    path="/tasks",
    id="create_task",
    tag=_TAG,
    summary="Create a task and run it",
    description=(
        "With `Accept: text/event-stream` the answer is the stream of the task from its beginning; the parameters of "
        "the query are for that. Wrong input, in them too, is refused before anything starts."
    ),
    parameters=(parameters.IDEMPOTENCY_KEY, *parameters.STARTING),
    body=body(
        ref("NewTask"),
        "The task. As many bytes at most as `REPRISE_MAX_EVENT_BYTES`.",
        required=True,
        examples={"countdown": {"type": "countdown", "input": {"seconds": 5}}},
    ),
    answers={
        200: started_stream("The stream of the task.", examples.TASK_STREAM),
        201: located("It is there and does not run: `execute` is false.", "Task", examples.NEW_TASK),
        202: located("It is there and will run.", "Task", examples.NEW_TASK),
        204: nothing("It has ended before, and `from=latest` or `since` leaves nothing of its stream."),
        **problems(
            409,
            has_body=True,
            _409="The `Idempotency-Key` came with another request, or its task was deleted.",
            _422="A member is wrong, missing or unknown, the input does not fit the schema of its type, or no worker "
            "has offered the type for a day; `errors` points at each.",
            _503="Not now, or no worker has said yet what it offers: come back after `Retry-After` seconds.",
        ),
    },
)

GET: Final = Operation(
    method="get",
    path="/tasks/{id}",
    id="get_task",
    tag=_TAG,
    summary="Look at a task",
    parameters=(parameters.TASK_ID,),
    answers={200: monitored("The task.", "Task", examples.TASK), **problems(404, _404=_NO_TASK)},
)

DELETE: Final = Operation(
    method="delete",
    path="/tasks/{id}",
    id="delete_task",
    tag=_TAG,
    summary="Delete a task that has ended",
    description="Its readers are told that it is over for as long as its log would have been kept.",
    parameters=(parameters.TASK_ID,),
    answers={204: nothing("It is deleted."), **problems(404, 409, _404=_NO_TASK, _409="It has not ended.")},
)

EVENTS: Final = Operation(
    method="get",
    path="/tasks/{id}/events",
    id="follow_task",
    tag=_TAG,
    summary="Follow a task",
    description=(
        "Its event stream, for an EventSource. The stream of a pending task opens and waits. It ends with exactly one "
        "of `complete`, `error` and `cancelled`; whatever ends without one of these is continued with the last id."
    ),
    parameters=(parameters.TASK_ID, *parameters.FOLLOWING),
    answers={
        200: followed("The events.", examples.TASK_STREAM, examples.TASK_POLL),
        204: nothing(_OVER),
        **problems(400, 404, _404=_NO_TASK),
    },
)

EXECUTE: Final = Operation(
    method="post",
    path="/tasks/{id}/execute",
    id="execute_task",
    tag=_TAG,
    summary="Run a task and follow it",
    description=(
        "The answer is the stream of the task, whatever `Accept` says. Starts a pending task, joins a running one, "
        "replays an ended one to its end. With a cursor it only resumes and starts nothing."
    ),
    parameters=(parameters.TASK_ID, *parameters.RESUMING),
    body=body(
        ref("Rerun"),
        "None, or which attempt of an ended task is to be followed by another run.",
        required=False,
        examples={"again": {"rerun_of": 1}},
    ),
    answers={
        200: started_stream("The events.", examples.TASK_STREAM),
        204: nothing(_OVER),
        **problems(
            404, 409, has_body=True, _404=_NO_TASK, _409="It is to run again while another task has its `unique_key`."
        ),
    },
)

CANCEL: Final = Operation(
    method="post",
    path="/tasks/{id}/cancel",
    id="cancel_task",
    tag=_TAG,
    summary="Cancel a task",
    description=(
        "A pending task ends at once, a running one when its worker has heard of it. Repeating it changes nothing, and "
        "so does cancelling an ended task. A body is not read."
    ),
    parameters=(parameters.TASK_ID,),
    answers={202: answer("The task.", "Task", examples.CANCELLED_TASK), **problems(404, _404=_NO_TASK)},
)

ALL_EVENTS: Final = Operation(
    method="get",
    path="/tasks/stream",
    id="follow_all_tasks",
    tag=_TAG,
    summary="Follow all tasks",
    description=(
        "`task_update` of every task, from now on unless a cursor or `from=earliest` says otherwise. Never ends by "
        "itself."
    ),
    parameters=parameters.FOLLOWING,
    answers={200: followed("The events.", examples.TASKS_STREAM, examples.TASKS_POLL), **problems(400)},
)

COUNTDOWN: Final = Operation(
    method="get",
    path="/stream/countdown/{seconds}",
    id="follow_countdown",
    tag=_TAG,
    summary="Start a countdown by connecting",
    description=(
        "For a plain EventSource. It starts only for a GET with `text/event-stream` in `Accept` and without "
        "`Sec-Purpose`. The first event is `position` with an id that names the stream of the task, so that a "
        "reconnect continues that countdown and never starts another. With a cursor it takes `application/json` too."
    ),
    parameters=(parameters.SECONDS, *parameters.FOLLOWING_BY_NAME),
    answers={
        200: followed("The events.", examples.COUNTDOWN_STREAM, examples.COUNTDOWN_POLL),
        204: nothing("It has ended, and the reader has had its last event."),
        **problems(400, 404, 406, _404="There is no such countdown."),
    },
)

OPERATIONS: Final = (TYPES, LIST, CREATE, GET, DELETE, EVENTS, EXECUTE, CANCEL, ALL_EVENTS, COUNTDOWN)
