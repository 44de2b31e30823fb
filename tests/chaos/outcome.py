"""What is left of a task and its readers once a run is over: what judges look at. Imports nothing of the product."""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos.follower import Follower, Id
from tests.chaos.plan import TaskPlan


@dataclass
class Followed:
    """One reader at the end of the run."""

    follower: Follower
    #: `closed`, a status, or empty if it still waits.
    outcome: str
    connections: int
    #: When it ended.
    at: float


@dataclass
class Outcome:
    """All that is left of one task."""

    plan: TaskPlan
    task_id: str
    #: When it was accepted, and when its cancellation was.
    started_at: float
    cancelled_at: float | None
    #: Status, last id and attempt by its record; empty status if it is unknown.
    status: str
    last_id: Id
    attempt: int
    #: Id and type of each entry of its log.
    log: list[tuple[Id, str]]
    readers: list[Followed]

    @property
    def name(self) -> str:
        return f"task {self.plan.number} ({self.task_id})"
