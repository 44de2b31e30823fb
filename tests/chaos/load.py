"""Starts a plan's tasks over HTTP, cancels those that are to be, and lets the planned readers follow each.

A client as docs/api.md wants it: a request that was not answered is sent again, with the same `Idempotency-Key`.
Invariant: it writes down only what it saw itself; what became of a task is asked once all is calm. Imports nothing of
the product.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import httpx

from tests.chaos.follower import ORIGIN, Follower, Id, Violation, parse_id
from tests.chaos.installation import HEARTBEAT_SECONDS, Installation
from tests.chaos.keys import log_key
from tests.chaos.outcome import Followed, Outcome
from tests.chaos.plan import Plan, ReaderPlan, TaskPlan
from tests.chaos.reader import Reader
from tests.support.http import http_client

_REQUEST_SECONDS = 6.0
_PAUSE_SECONDS = 0.25
#: A page replaces a connection that was silent for three heartbeats.
_PATIENCE_SECONDS = 3 * HEARTBEAT_SECONDS
#: Statuses that say "not now".
_LATER: Final = frozenset({500, 502, 503, 504})


@dataclass
class Started:
    """A task and its readers, as far as they have come."""

    plan: TaskPlan
    task_id: str
    #: When it was asked for first.
    at: float
    cancelled_at: float | None = None
    readers: list[tuple[Follower, Reader]] = field(default_factory=list[tuple[Follower, Reader]])
    is_cancel_due: bool = False

    @property
    def has_ended(self) -> bool:
        return any(follower.has_ended for follower, _ in self.readers)


class Load:
    """`run` starts everything and returns once every reader is through; cancel it to leave those that are not."""

    def __init__(self, plan: Plan, installation: Installation, *, clock: Callable[[], float]) -> None:
        self._plan = plan
        self._installation = installation
        self._clock = clock
        self._random = Random(f"{plan.seed} clients")
        self.started: list[Started] = []
        self.violations: list[Violation] = []

    @property
    def readers(self) -> list[tuple[Follower, Reader]]:
        return [each for started in self.started for each in started.readers]

    def running(self) -> list[str]:
        """Ids of the tasks that readers see running."""
        return [
            started.task_id
            for started in self.started
            if not started.has_ended and any(follower.events for follower, _ in started.readers)
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for plan in self._plan.tasks:
                await asyncio.sleep(max(0.0, plan.at - self._clock()))
                group.create_task(self._task(plan), name=f"task {plan.number}")

    async def _task(self, plan: TaskPlan) -> None:
        started = Started(plan, "", self._clock())
        created = await self._ask(
            "POST",
            "/tasks",
            json={"type": plan.type, "input": plan.script.input, "title": plan.script.key},
            headers={"idempotency-key": f"chaos-{plan.script.key}"},
        )
        if created.status_code != 202:
            says = f"POST /tasks was answered {created.status_code}: {created.text[:300]}"
            self.violations.append(Violation("request", says, self._clock()))
            return
        started.task_id = created.json()["id"]
        self.started.append(started)
        async with asyncio.TaskGroup() as group:
            for reader_plan in plan.readers:
                group.create_task(self._read(started, reader_plan))
            if plan.cancel_after is not None:
                group.create_task(self._cancel(started, plan.cancel_after))

    async def _read(self, started: Started, plan: ReaderPlan) -> None:
        await asyncio.sleep(plan.after)
        follower = Follower(f"reader {plan.number}", started.plan.script, self._clock)
        reader = Reader(
            self._installation.ports,
            f"/tasks/{started.task_id}/events",
            follower,
            Random(f"{started.plan.script.key} reader {plan.number}"),
            _PATIENCE_SECONDS,
            drops_after=plan.drops_after,
            closes=plan.closes,
        )
        started.readers.append((follower, reader))
        await reader.follow()

    async def _cancel(self, started: Started, after: float) -> None:
        await asyncio.sleep(after)
        answer = await self._ask("POST", f"/tasks/{started.task_id}/cancel")
        if answer.status_code == 202:
            started.cancelled_at = self._clock()
        elif answer.status_code != 404:  # lost; whether it may be, is told by its record
            says = f"The cancellation of {started.task_id} was answered {answer.status_code}: {answer.text[:300]}"
            self.violations.append(Violation("request", says, self._clock()))

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask one replica after the other until one answers."""
        while True:
            port = self._random.choice(self._installation.ports)
            try:
                async with http_client(f"http://127.0.0.1:{port}", timeout=_REQUEST_SECONDS) as http:
                    answer = await http.request(method, path, **request)
                if answer.status_code not in _LATER:
                    return answer
                if answer.status_code == 500:
                    says = f"{method} {path} was answered 500: {answer.text[:300]}"
                    self.violations.append(Violation("request", says, self._clock()))
            except httpx.HTTPError:
                pass
            await asyncio.sleep(_PAUSE_SECONDS * self._random.uniform(1, 2))

    async def outcomes(self) -> Sequence[Outcome]:
        """What became of each task; to be asked in calm weather."""
        return [await self._outcome(started) for started in self.started]

    async def _outcome(self, started: Started) -> Outcome:
        answer = await self._ask("GET", f"/tasks/{started.task_id}")
        record: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        last_id: str | None = record.get("last_event_id")
        return Outcome(
            started.plan,
            started.task_id,
            started_at=started.at,
            cancelled_at=started.cancelled_at,
            status=record.get("status", ""),
            last_id=parse_id(last_id) if last_id else ORIGIN,
            attempt=record.get("attempt", 0),
            log=await self._log(started.task_id),
            readers=[
                Followed(follower, reader.outcome, reader.connections, reader.ended_at)
                for follower, reader in started.readers
            ],
        )

    async def _log(self, task_id: str) -> list[tuple[Id, str]]:
        key = log_key(task_id)
        rows = await self._installation.topology.command(key, "XRANGE", key, "-", "+")
        return [(parse_id(event_id), fields[fields.index("e") + 1]) for event_id, fields in rows]
