"""Tasks over HTTP: what there is to run, creating, listing, looking up, starting, cancelling and deleting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from server.streams.errors import LogUnavailable
from server.streams.ids import ORIGIN
from server.streams.names import task_stream
from server.streams.records import Status
from server.web.bodies import read_object, whole_number
from server.web.cursors import manner_of, start_of, start_of_parameters
from server.web.follow import admit, answer, open_stream
from server.web.idempotency import idempotency_key
from server.web.json_answers import json_response, stream_link
from server.web.names import task_id_of
from server.web.new_task import MEMBERS, new_task
from server.web.paging import cursor_of, limit_of
from server.web.problems import FieldError, Problem, invalid, shown
from server.web.refusals import refuse
from server.web.requests import accepts_event_stream
from server.web.usable import check_usable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from server.fanout import Manner, Start
    from server.streams.records import TaskRecord
    from server.web.state import WebRequest

_LISTED_STATUSES: Final = [status.value for status in Status if status is not Status.DELETED]


async def task_types(request: WebRequest) -> Response:
    offered = await request.state["registry"].live_types()
    return json_response(
        {
            "task_types": [
                {
                    "name": each.name,
                    "description": each.description,
                    "input_schema": each.input_schema,
                    "queue": each.queue,
                }
                for each in offered
            ]
        }
    )


async def create_task(request: WebRequest) -> Response:
    key = idempotency_key(request)
    body = await read_object(request, max_bytes=request.state["limits"].max_body_bytes, known=MEMBERS)
    new = await new_task(request, body)
    start, manner = start_of_parameters(request), manner_of(request)
    is_followed = accepts_event_stream(request)
    if is_followed:
        admit(request)
    record = await request.state["store"].create(new, idempotency_key=key)
    if is_followed:
        return await _started_stream(request, record.id, start, manner)
    return json_response(
        record.as_json(), status=202 if new.execute else 201, headers={"location": f"/tasks/{record.id}"}
    )


async def shown_tasks(request: WebRequest, records: Sequence[TaskRecord]) -> list[dict[str, Any]]:
    """Tasks as JSON, each with how many live workers could run it: with none it waits, whatever its status."""
    live = (await request.state["registry"].live_workers()).values() if records else ()
    return [record.as_json() | {"workers": _able(record, live)} for record in records]


def _able(record: TaskRecord, live: Iterable[dict[str, Any]]) -> int | None:
    if record.status.is_ended:
        return None
    return sum(record.type in each["types"] and record.queue in each.get("queues", [record.queue]) for each in live)


async def list_tasks(request: WebRequest) -> Response:
    query = request.query_params
    page = await request.state["store"].list(
        status=_status(query.get("status")),
        task_type=query.get("type") or None,
        limit=limit_of(query.get("limit")),
        cursor=cursor_of(query.get("cursor")),
    )
    return json_response({"tasks": await shown_tasks(request, page.tasks), "next": page.next_cursor})


async def get_task(request: WebRequest) -> Response:
    record = await request.state["store"].get(task_id_of(request))
    [task] = await shown_tasks(request, [record])
    # Read in one step with all the rest: what comes after it is what the answer does not show.
    monitor = stream_link(task["events_url"], [("last_event_id", task["last_event_id"] or str(ORIGIN))])
    return json_response(task, headers={"link": monitor})


async def delete_task(request: WebRequest) -> Response:
    await request.state["store"].delete(task_id_of(request))
    return Response(status_code=204)


async def cancel_task(request: WebRequest) -> Response:
    record = await request.state["store"].cancel(task_id_of(request))
    return json_response(*await shown_tasks(request, [record]), status=202)


async def execute_task(request: WebRequest) -> Response:
    task_id = task_id_of(request)
    start, manner = start_of(request), manner_of(request)
    body = await read_object(request, max_bytes=request.state["limits"].max_body_bytes, known={"rerun_of"})
    rerun_of = _rerun_of(body)
    if start.cursor is not None:
        # A reader that has been here before only wants to go on: whatever it started may have ended meanwhile.
        await request.state["store"].get(task_id)
        return await open_stream(request, task_stream(task_id), start, manner)
    check_usable(request)
    await request.state["store"].get(task_id)
    admit(request)
    await request.state["store"].start(task_id, rerun_of=rerun_of)
    return await _started_stream(request, task_id, start, manner)


async def _started_stream(request: WebRequest, task_id: str, start: Start, manner: Manner) -> Response:
    """The stream of a task that has been started: from here on a refusal must say where it can be followed."""
    headers = {"location": f"/tasks/{task_id}"}
    try:
        subscription = await request.state["hub"].subscribe(task_stream(task_id), start, manner)
    except LogUnavailable:
        return refuse(request, f"The task has been started; follow it at /tasks/{task_id}/events", headers=headers)
    return await answer(request, subscription, headers=headers)


def _rerun_of(body: dict[str, Any]) -> int | None:
    value = body.get("rerun_of")
    attempt = whole_number(value)
    if value is None or (attempt is not None and 0 <= attempt < 2**31):
        return attempt
    raise invalid(
        FieldError("#/rerun_of", f"{shown(value)} is not an attempt. Use the task's newest 'attempt', 0 or more.")
    )


def _status(text: str | None) -> Status | None:
    if not text:
        return None
    if text in _LISTED_STATUSES:
        return Status(text)
    raise Problem(400, f"'status' is {shown(text)}. Use one of {', '.join(_LISTED_STATUSES)}.")
