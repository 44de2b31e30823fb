"""The operations on other streams: publishing, following, paging, settings, closing, deleting, listing.

Another way to follow is an `Operation` here with `followed` among its answers; a parameter that all event streams take
goes into `parameters.STARTING`.
"""

from __future__ import annotations

from typing import Final

from server.web.open_streams.publish import NDJSON
from server.web.openapi import examples, parameters
from server.web.openapi.answers import answer, followed, linked, located, nothing, problems
from server.web.openapi.operation import Operation, body
from server.web.openapi.shapes import array, ref

_TAG: Final = "Streams"
_NAME: Final = (parameters.STREAM_NAME,)
_NO_STREAM: Final = "There is no such stream, or it is no name of one."
_NO_NAME: Final = "No stream can have this name."
_NAME_OR_BODY: Final = f"{_NO_NAME} Or a member of the body is wrong or unknown, and `errors` points at each."
_TOKENS: Final = [{"type": "token", "append": "Hel"}, {"type": "token", "append": "lo"}]

EVENTS: Final = Operation(
    method="get",
    path="/streams/{name}/events",
    id="follow_stream",
    tag=_TAG,
    summary="Follow a stream",
    description=(
        "From its beginning, unless a cursor or a parameter says otherwise. One that does not exist yet opens and "
        "waits. It ends if a program ends it. The stream `tasks.{id}` is that of a task, and the same as "
        "`/tasks/{id}/events`."
    ),
    parameters=(*_NAME, *parameters.FOLLOWING),
    answers={
        200: followed("The events.", examples.OPEN_STREAM, examples.OPEN_POLL),
        204: nothing("The reader has had the last event, or the stream was deleted."),
        **problems(400, 404, _404="No stream can have this name, or it is that of a task that nobody knows."),
    },
)

SEVERAL: Final = Operation(
    method="get",
    path="/events",
    id="follow_several",
    tag=_TAG,
    summary="Follow several streams in one response",
    description=(
        "Every id lists the position in each stream, the event's own first, and is one cursor. Each stream is complete "
        "and in order, and begins where it would by itself unless the cursor names it; there is no order between "
        "streams. One that ends leaves the others, and the response ends with the last of them. A cursor may lack "
        "streams that are asked for, and names no others."
    ),
    parameters=parameters.FOLLOWING_SEVERAL,
    answers={
        200: followed("The events.", examples.SEVERAL_STREAM, examples.SEVERAL_POLL),
        204: nothing("The reader has had the last event of each stream; one that was deleted has ended."),
        **problems(
            400,
            404,
            _400="A parameter or cursor that cannot be read, no stream or too many, a name that no stream can have, or "
            "a cursor for a stream that is not asked for.",
            _404="One of them is that of a task that nobody knows, and the cursor does not name it.",
        ),
    },
)

PUBLISH: Final = Operation(
    method="post",
    path="/streams/{name}/events",
    id="publish",
    tag=_TAG,
    summary="Publish events",
    description=(
        "One event, an array of up to 1,000, or one on each line. All of a request are stored, one behind the other, "
        "or none. A stream is there with its first event."
    ),
    parameters=(*_NAME, parameters.IDEMPOTENCY_KEY),
    body=body(
        ref("NewEvents"),
        "The events. The data of each may have as many bytes as `REPRISE_MAX_EVENT_BYTES`.",
        required=True,
        examples={
            "one": {"type": "note", "data": {"text": "Hello"}},
            "several": _TOKENS,
        },
        **{NDJSON: (array(ref("NewEvent"), "One on each line; empty lines are skipped.", minItems=1), _TOKENS)},
    ),
    answers={
        201: answer("They are stored.", "EventIds", {"ids": ["1795343970123-57"]}),
        **problems(
            403,
            409,
            has_body=True,
            _422="No stream can have this name, or an event is wrong: `errors` points at each.",
            _409="The stream is closed or deleted, or the `Idempotency-Key` came with other events.",
            _503="Redis is away, and whether the events are stored is not known; with the code `not_stored` "
            "nothing of this request is. Repeat the request with its `Idempotency-Key` after `Retry-After` seconds.",
        ),
    },
)

HISTORY: Final = Operation(
    method="get",
    path="/streams/{name}/history",
    id="get_history",
    tag=_TAG,
    summary="Page through a stream",
    description=(
        "`next` is where the next page begins, to be sent as `after`, or with `order=desc` as `before`; `cursor` the "
        "position behind the newest event of the page, from which the stream can be followed. A stream that does not "
        "exist yet has an empty page."
    ),
    parameters=(
        *_NAME,
        parameters.ORDER,
        parameters.AFTER,
        parameters.BEFORE,
        parameters.HISTORY_LIMIT,
        parameters.ALL_ATTEMPTS,
    ),
    answers={
        200: linked("A page.", "History", examples.HISTORY),
        **problems(400, 404, _404="A name that no stream can have, a stream that was deleted, or an unknown task."),
    },
)

PUT: Final = Operation(
    method="put",
    path="/streams/{name}",
    id="put_stream",
    tag=_TAG,
    summary="Give a stream settings of its own",
    description="They are given once and hold for every writer until the stream is deleted, or long unused.",
    parameters=_NAME,
    body=body(
        ref("StreamSettings"),
        "The settings; each may be left out.",
        required=False,
        examples={"state": {"keep": "latest"}},
    ),
    answers={
        200: located("It has these settings already.", "Stream", examples.STREAM),
        201: located("It has these settings now.", "Stream", examples.STREAM),
        **problems(403, 409, has_body=True, _409="It has other settings.", _422=_NAME_OR_BODY),
    },
)

GET: Final = Operation(
    method="get",
    path="/streams/{name}",
    id="get_stream",
    tag=_TAG,
    summary="Look at a stream",
    parameters=_NAME,
    answers={200: answer("The stream.", "Stream", examples.STREAM), **problems(404, _404=_NO_STREAM)},
)

CLOSE: Final = Operation(
    method="post",
    path="/streams/{name}/close",
    id="close_stream",
    tag=_TAG,
    summary="End a stream",
    description="Its readers get `complete`; publishing is 409 from then on. Closing it again changes nothing.",
    parameters=_NAME,
    body=body(ref("End"), "None, or a result.", required=False, examples={"result": {"result": {"words": 7}}}),
    answers={
        200: answer("The end that it has.", "EventIdOf", {"id": "1795343970123-58"}),
        **problems(403, 409, has_body=True, _409="It was deleted.", _422=_NAME_OR_BODY),
    },
)

DELETE: Final = Operation(
    method="delete",
    path="/streams/{name}",
    id="delete_stream",
    tag=_TAG,
    summary="Delete a stream",
    description="Readers who are there get `cancelled`, those who come later 204, or `cancelled` among other streams. "
    "Repeating it changes nothing.",
    parameters=_NAME,
    answers={204: nothing("It is deleted."), **problems(403, 404, 422, _404="There is none.", _422=_NO_NAME)},
)

LIST: Final = Operation(
    method="get",
    path="/streams",
    id="list_streams",
    tag=_TAG,
    summary="List streams by name",
    description="Reprise's own are not among them.",
    parameters=(parameters.PREFIX, parameters.LIMIT, parameters.NAME_CURSOR),
    answers={200: answer("A page.", "StreamList", {"streams": [examples.STREAM], "next": None}), **problems(400)},
)

SYSTEM: Final = Operation(
    method="get",
    path="/stream/system",
    id="follow_system",
    tag=_TAG,
    summary="Follow the installation",
    description=(
        "`info`, `task_created`, `task_updated` and `task_completed`, from now on unless a cursor or `from=earliest` "
        "says otherwise. Never ends by itself."
    ),
    parameters=parameters.FOLLOWING,
    answers={200: followed("The events.", examples.SYSTEM_STREAM, examples.SYSTEM_POLL), **problems(400)},
)

OPERATIONS: Final = (EVENTS, SEVERAL, PUBLISH, HISTORY, PUT, GET, CLOSE, DELETE, LIST, SYSTEM)
