"""The operations on dead letters: tasks that were given up."""

from __future__ import annotations

from typing import Final

from server.web.openapi import examples, parameters
from server.web.openapi.answers import answer, located, nothing, problems
from server.web.openapi.operation import Operation

_TAG: Final = "Dead letters"
_NONE: Final = "The task is no dead letter."

LIST: Final = Operation(
    method="get",
    path="/dead-letters",
    id="list_dead_letters",
    tag=_TAG,
    summary="List dead letters, newest first",
    parameters=(parameters.LIMIT, parameters.PAGE_CURSOR),
    answers={
        200: answer("A page.", "DeadLetterList", {"dead_letters": [examples.DEAD_LETTER], "next": None}),
        **problems(400),
    },
)

GET: Final = Operation(
    method="get",
    path="/dead-letters/{id}",
    id="get_dead_letter",
    tag=_TAG,
    summary="Look at a dead letter",
    parameters=(parameters.TASK_ID,),
    answers={
        200: answer("It, with its input and errors.", "DeadLetterDetails", examples.DEAD_LETTER_DETAILS),
        **problems(404, _404=_NONE),
    },
)

DELETE: Final = Operation(
    method="delete",
    path="/dead-letters/{id}",
    id="delete_dead_letter",
    tag=_TAG,
    summary="Forget a dead letter",
    description="The task stays failed and expires as others do.",
    parameters=(parameters.TASK_ID,),
    answers={204: nothing("It is no dead letter any more."), **problems(404, _404=_NONE)},
)

RETRY: Final = Operation(
    method="post",
    path="/dead-letters/{id}/retry",
    id="retry_dead_letter",
    tag=_TAG,
    summary="Run the task of a dead letter again",
    description=(
        "From its beginning, with all its attempts. Repeating it while the task has not ended gives the task. "
        "A body is not read."
    ),
    parameters=(parameters.TASK_ID,),
    answers={
        202: located("The task.", "Task", examples.TASK),
        **problems(404, 409, _404=_NONE, _409="Another task has its `unique_key`."),
    },
)

OPERATIONS: Final = (LIST, GET, DELETE, RETRY)
