"""What befell the installation, and when: what a hole or a lost end may be explained by. Written while faults strike.

Times are those of the run's clock. Imports nothing of the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from tests.chaos.keys import log_key, slot_of

#: Between a fault's effect and the moment at which it was written down.
SLACK_SECONDS = 1.0
#: The way from everybody to one of several servers, by the names that plans use.
_SHARED_WAY = "link:node"


@dataclass(slots=True)
class Incident:
    kind: str
    target: str
    began: float
    #: When it was over; None while it lasts.
    healed: float | None = None
    #: From when on Redis lost what it had; None if it lost nothing.
    lost_since: float | None = None
    #: Until when it took what is lost; None if that ended when it began. A command may be late, and a master that was
    #: replaced and does not know goes on taking what nobody will have.
    lost_until: float | None = None
    #: The task whose log was deleted; None if it struck everything.
    task_id: str | None = None
    #: The slots of a Cluster whose data was lost; None for all there is.
    slots: frozenset[int] | None = None
    is_failover: bool = False

    def overlaps(self, begin: float, end: float) -> bool:
        return self.began <= end and (self.healed is None or self.healed >= begin)

    @property
    def lost_last(self) -> float:
        """What was written later, it took not."""
        return self.began if self.lost_until is None else self.lost_until

    def lost(self, task_id: str, since: float) -> bool:
        """Whether it may have taken something of this task away, which is as old as `since`."""
        if self.lost_since is None or self.task_id not in {None, task_id}:
            return False
        return self.lost_last >= since - SLACK_SECONDS and (
            self.slots is None or slot_of(log_key(task_id)) in self.slots
        )


@dataclass
class Chronicle:
    incidents: list[Incident] = field(default_factory=list[Incident])
    #: What followed from them: another server became the master.
    failovers: list[Incident] = field(default_factory=list[Incident])
    #: Worker by process id.
    workers: dict[int, str] = field(default_factory=dict[int, str])
    #: The time of day, by which generations are named, when the run's clock was at 0; seconds since epoch.
    epoch: float = 0.0

    def add(self, kind: str, target: str, at: float) -> Incident:
        found = Incident(kind, target, at)
        self.incidents.append(found)
        return found

    def add_failover(self, target: str, at: float, *, lost_since: float, slots: frozenset[int] | None) -> Incident:
        """Note that `target` became the master, without what was written after `lost_since`."""
        found = Incident("failover", target, at, at, lost_since, lost_until=inf, slots=slots, is_failover=True)
        self.failovers.append(found)
        return found

    @property
    def by_kind(self) -> dict[str, int]:
        return dict(sorted(Counter(each.kind for each in self.incidents).items()))

    def losses(self, task_id: str, since: float) -> list[Incident]:
        """Those that may have taken something of this task's log or record away; it is as old as `since`."""
        return [each for each in (*self.incidents, *self.failovers) if each.lost(task_id, since)]

    def record_losses(self, task_id: str, since: float) -> list[Incident]:
        """Those that may have taken its record away."""
        return [each for each in self.losses(task_id, since) if each.task_id is None]

    def may_have_lost(self, task_id: str, at: float) -> Iterable[Incident]:
        """Losses of its record that may have reached what was stored at or before `at`, and was seen then."""
        return (each for each in self.record_losses(task_id, at) if self._reaches(each, at))

    def was_struck(self, pid: int, begin: float, end: float) -> bool:
        """Whether anything befell the worker, or its way to Redis, in that time."""
        name = self.workers.get(pid, "")
        return any(
            (each.target in {name, f"link:{name}"} or each.target.startswith(_SHARED_WAY)) and each.overlaps(begin, end)
            for each in self.incidents
        )

    @staticmethod
    def _reaches(loss: Incident, at: float) -> bool:
        since = loss.lost_since
        return since is not None and since - SLACK_SECONDS <= at <= loss.lost_last + SLACK_SECONDS
