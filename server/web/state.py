"""What every endpoint works with, built once by `server.app` and found in `request.state`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from starlette.requests import Request

if TYPE_CHECKING:
    from server.fanout import Hub
    from server.streams.dead_letters import DeadLetters
    from server.streams.log import Log
    from server.streams.open_streams import OpenStreams
    from server.streams.registry import Registry
    from server.streams.safety import Safety
    from server.streams.tasks import TaskStore
    from server.web.metrics import Metrics
    from server.web.readiness import Readiness
    from server.web.refusals import Refusals


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one server takes."""

    #: Event streams at a time; beyond, readers are asked to come back.
    max_connections: int
    #: Of a request body, and so of a task's input.
    max_body_bytes: int
    #: Runs of a task whose type does not say.
    max_attempts: int
    #: How long a reader may take nothing of what it is sent.
    stall_seconds: float


class State(TypedDict):
    """`request.state`, item by item."""

    store: TaskStore
    dead_letters: DeadLetters
    registry: Registry
    log: Log
    streams: OpenStreams
    hub: Hub
    readiness: Readiness
    safety: Safety
    refusals: Refusals
    limits: Limits
    metrics: Metrics


WebRequest: TypeAlias = "Request[State]"
