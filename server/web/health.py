"""Whether this process lives, and whether requests should come to it.

Readiness is what a balancer asks: Redis answers, the tail hears of new events, nobody has told the process to stop.
Liveness is only that it answers, so that nothing restarts a server because Redis is away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from server.web.json_answers import json_response
from server.web.problems import ProblemResponse

if TYPE_CHECKING:
    from server.web.state import WebRequest


async def live(request: WebRequest) -> Response:
    return json_response({"status": "live"})


async def ready(request: WebRequest) -> Response:
    reasons = await request.state["readiness"].reasons()
    if reasons:
        return ProblemResponse(503, " ".join(reasons), headers={"retry-after": "1"}, reasons=reasons)
    return json_response({"status": "ready"})
