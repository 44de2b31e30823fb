"""What befell the installation, and when: what a hole or a lost end may be explained by. Written while faults strike.

Times are those of the run's clock. Imports nothing of the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

#: Between a fault's effect and the moment at which it was written down.
SLACK_SECONDS = 1.0


@dataclass(slots=True)
class Incident:
    kind: str
    target: str
    began: float
    #: When it was over; None while it lasts.
    healed: float | None = None
    #: From when on Redis lost what it had; None if it lost nothing.
    lost_since: float | None = None
    #: The task whose log was deleted; None if it struck everything.
    task_id: str | None = None

    def overlaps(self, begin: float, end: float) -> bool:
        return self.began <= end and (self.healed is None or self.healed >= begin)


@dataclass
class Chronicle:
    incidents: list[Incident] = field(default_factory=list[Incident])
    #: Worker by process id.
    workers: dict[int, str] = field(default_factory=dict[int, str])

    def add(self, kind: str, target: str, at: float) -> Incident:
        found = Incident(kind, target, at)
        self.incidents.append(found)
        return found

    @property
    def by_kind(self) -> dict[str, int]:
        return dict(sorted(Counter(each.kind for each in self.incidents).items()))

    def losses(self, task_id: str, since: float) -> list[Incident]:
        """Those that may have taken something of this task's log or record away; it is as old as `since`."""
        begin = since - SLACK_SECONDS
        lost = [each for each in self.incidents if each.lost_since is not None and each.began >= begin]
        return [each for each in lost if each.task_id in {None, task_id}]

    def record_losses(self) -> list[Incident]:
        """Those that may have taken records away."""
        return [each for each in self.incidents if each.lost_since is not None and each.task_id is None]

    def may_have_lost(self, at: float) -> Iterable[Incident]:
        """Losses of records that may have reached what was stored at or before `at`, and was seen then."""
        return (each for each in self.record_losses() if self._reaches(each, at))

    def was_struck(self, pid: int, begin: float, end: float) -> bool:
        """Whether anything befell the worker, or its way to Redis, in that time."""
        name = self.workers.get(pid, "")
        return any(each.target in {name, f"link:{name}"} and each.overlaps(begin, end) for each in self.incidents)

    @staticmethod
    def _reaches(loss: Incident, at: float) -> bool:
        since = loss.lost_since
        return since is not None and since - SLACK_SECONDS <= at <= loss.began + SLACK_SECONDS
