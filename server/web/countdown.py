"""`GET /stream/countdown/{seconds}`: a task that a plain EventSource starts by connecting.

Invariant: only a browser's EventSource starts one, not a link preview or a prefetch; and it starts one only the first
time. The ids name the task's stream, so every reconnect continues that very countdown, on any server.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from server.fanout.frames import position_frame
from server.streams.cursor import format_composite, parse_composite
from server.streams.errors import InvalidCursor, InvalidInput, LogUnavailable, NotDurable, Unknown
from server.streams.ids import ORIGIN
from server.streams.names import parse_task_id, task_of_stream, task_stream
from server.streams.new_task import NewTask
from server.streams.records import Status
from server.web.cursors import cursor_text, manner_of, start_of_parameters
from server.web.follow import admit, answer, head_response, open_stream
from server.web.poll import wait_of
from server.web.problems import Problem, shown
from server.web.refusals import Busy, note_not_durable, refuse
from server.web.requests import accepts_event_stream
from server.web.usable import check_usable

if TYPE_CHECKING:
    from server.fanout import Manner, Start
    from server.web.state import WebRequest

_TYPE: Final = "countdown"
#: As the demo task says; here no schema is asked.
MOST_SECONDS: Final = 60
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,2}")


async def countdown(request: WebRequest) -> Response:
    seconds = _seconds(request.path_params["seconds"])
    parameters, manner = start_of_parameters(request), replace(manner_of(request), is_composite=True)
    wait_of(request)  # only for a poll, which starts none; a wrong one is told all the same
    text = cursor_text(request)
    if text is not None:
        return await _continue(request, text, parameters, manner)
    if not accepts_event_stream(request) or "sec-purpose" in request.headers:
        raise Problem(
            406,
            "Connecting here starts a countdown, so it takes an EventSource: "
            "a GET with 'Accept: text/event-stream' that is no prefetch.",
        )
    if request.method == "HEAD":
        return head_response()
    return await _begin(request, seconds, parameters, manner)


def _seconds(text: str) -> int:
    if _NUMBER.fullmatch(text) and int(text) <= MOST_SECONDS:
        return int(text)
    raise Problem(400, f"{shown(text)} is no number of seconds from 1 to {MOST_SECONDS}. Use /stream/countdown/10.")


async def _begin(request: WebRequest, seconds: int, parameters: Start, manner: Manner) -> Response:
    admit(request)
    check_usable(request)
    task_type = await request.state["registry"].known_type(_TYPE)
    if task_type is None:
        raise Busy("No worker offers 'countdown' yet. Come back when one has started.")
    new = NewTask.of(task_type, {"seconds": seconds}, max_attempts=request.state["limits"].max_attempts)
    try:
        record = await request.state["store"].create(new)
    except NotDurable as error:
        if error.task_id is None:
            raise
        note_not_durable(request, error)
        return _come_back(request, error.task_id, "The countdown has started, but a failover may still undo it.")
    stream = task_stream(record.id)
    try:
        subscription = await request.state["hub"].subscribe(stream, parameters, replace(manner, announce_position=True))
    except LogUnavailable:
        return _come_back(request, record.id, "The countdown has started, but cannot be read at the moment.")
    return await answer(request, subscription)


def _come_back(request: WebRequest, task_id: str, reason: str) -> Response:
    """Where it has started: without an id to come back with, the reader would start another one."""
    stream = task_stream(task_id)
    return refuse(request, reason, frame=position_frame(format_composite(stream, {stream: ORIGIN})))


async def _continue(request: WebRequest, text: str, parameters: Start, manner: Manner) -> Response:
    stream = text.rpartition(":")[0]
    try:
        task_id = parse_task_id(task_of_stream(stream) or "")
    except InvalidInput:
        raise InvalidCursor(
            f"The cursor {shown(text)} names no countdown. Send back an id exactly as it was received from this "
            "address, such as 'tasks.k5x2:1795343970123-3'."
        ) from None
    position = parse_composite(text, [stream])[stream]
    record = await request.state["store"].find(task_id)
    # A deleted task leaves a marker without a type: its reader is told that it is over.
    if record is None or (record.status is not Status.DELETED and record.type != _TYPE):
        raise Unknown(f"There is no countdown {task_id!r}. It may have been deleted, or its record has expired.")
    return await open_stream(request, stream, replace(parameters, cursor=position), manner)
