"""Dead letters over HTTP: listing, looking at one, running its task again, forgetting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from server.streams.dead_letters import details, summary
from server.web.json_answers import json_response
from server.web.names import task_id_of
from server.web.paging import cursor_of, limit_of
from server.web.tasks import shown_tasks

if TYPE_CHECKING:
    from server.web.state import WebRequest


async def list_dead_letters(request: WebRequest) -> Response:
    query = request.query_params
    page = await request.state["dead_letters"].list(
        limit=limit_of(query.get("limit")), cursor=cursor_of(query.get("cursor"))
    )
    return json_response({"dead_letters": [summary(each) for each in page.tasks], "next": page.next_cursor})


async def get_dead_letter(request: WebRequest) -> Response:
    return json_response(details(await request.state["dead_letters"].get(task_id_of(request))))


async def retry_dead_letter(request: WebRequest) -> Response:
    record = await request.state["dead_letters"].retry(task_id_of(request))
    return json_response(*await shown_tasks(request, [record]), status=202, headers={"location": f"/tasks/{record.id}"})


async def delete_dead_letter(request: WebRequest) -> Response:
    await request.state["dead_letters"].discard(task_id_of(request))
    return Response(status_code=204)
