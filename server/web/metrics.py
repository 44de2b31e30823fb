"""What this process tells Prometheus: `GET /metrics`, in the text format its scraper asks for.

Each process speaks for itself alone, so a scraper asks every replica, not the balancer. Invariant: to be asked costs no
call to Redis, so that the numbers are there when Redis is not. The names are a contract: autoscalers go by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

if TYPE_CHECKING:
    from server.web.state import WebRequest


class Metrics:
    """The metrics of one application. Not the package's global registry, which all applications of a process share."""

    def __init__(self, *, open_streams: Callable[[], int]) -> None:
        """`open_streams` counts as REPRISE_MAX_CONNECTIONS does."""
        self.registry = CollectorRegistry()
        gauge = Gauge("reprise_open_streams", "Event streams that this server carries now.", registry=self.registry)
        gauge.set_function(open_streams)


async def metrics(request: WebRequest) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    body = encode(request.state["metrics"].registry)
    return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})
