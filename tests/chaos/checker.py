"""The judge of a run: what every reader saw, against what the tasks were told and what befell them.

Pure, and independent of the product's code: it imports nothing of it. What it holds against the product:

* every reader's events are exact and contiguous, or each hole was announced (`follower`) and was real (`holes`);
* every task ends exactly once, and every reader of it learns the same end;
* nobody is left behind: an EventSource is answered 200 or 204, and at last the end.

What it excuses is written down, counted, and bound to a fault that explains it: data that Redis lost together with the
only worker that could have written it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.chronicle import SLACK_SECONDS, Chronicle, Incident
from tests.chaos.follower import TERMINAL, Violation
from tests.chaos.holes import Holes
from tests.chaos.outcome import Followed, Outcome

_STATUS = {"complete": "completed", "error": "failed", "cancelled": "cancelled"}
#: A worker stays so long after the end of a task, to write it back: see docs/protocol.md.
_AFTERGLOW_SECONDS = 3.0
#: Workers try again after up to so long once Redis is back. (Servers wait for them, but with leases as short as ours
#: not for as long.)
_BACK_SECONDS = 4.0
#: In a lease: docs/protocol.md, "Claims, leases, ends".
_RENEWALS = 5


@dataclass(frozen=True)
class Offence:
    """A violation, with who saw it."""

    violation: Violation
    who: str
    transcript: tuple[str, ...] = ()


@dataclass
class Judgement:
    offences: list[Offence] = field(default_factory=list[Offence])
    #: What was excused, by kind.
    excused: dict[str, int] = field(default_factory=dict[str, int])
    announced: int = 0
    #: Gaps behind which nothing was missing: all of it was void, or came back.
    needless: int = 0
    #: Numbered events that announced holes lacked.
    missing: int = 0

    def count(self, kind: str) -> int:
        return sum(each.violation.kind == kind for each in self.offences)

    def excuse(self, kind: str) -> None:
        self.excused[kind] = self.excused.get(kind, 0) + 1


class Judge:
    """Use `judge` once."""

    def __init__(self, chronicle: Chronicle, *, max_events: int, lease_seconds: float) -> None:
        self._chronicle = chronicle
        self._max_events = max_events
        self._lease_seconds = lease_seconds
        self._found = Judgement()

    def judge(self, outcomes: Sequence[Outcome]) -> Judgement:
        for outcome in outcomes:
            self._task(outcome)
            self._log(outcome)
            self._ends(outcome)
            for reader in outcome.readers:
                self._reader(outcome, reader)
        return self._found

    # The task.

    def _task(self, outcome: Outcome) -> None:
        script = outcome.plan.script
        if not outcome.status:
            if self._chronicle.record_losses(outcome.task_id, outcome.started_at):
                self._found.excuse("a task vanished from a Redis that lost its data")
            else:
                self._blame("task", "It is unknown, although Redis lost nothing.", outcome)
            return
        allowed = {_STATUS[script.ends]}
        if outcome.plan.cancel_after is not None:
            allowed.add("cancelled")
            if outcome.cancelled_at is not None and not self._may_have_lost_cancel(outcome):
                allowed &= {"cancelled", self._status_before(outcome, outcome.cancelled_at)}
        if outcome.status not in allowed:
            self._blame("task", f"It is {outcome.status!r}, but was to be {' or '.join(sorted(allowed))}.", outcome)

    def _may_have_lost_cancel(self, outcome: Outcome) -> bool:
        at = outcome.cancelled_at
        return at is not None and bool(self._chronicle.record_losses(outcome.task_id, at))

    def _status_before(self, outcome: Outcome, at: float) -> str:
        """What it may be because it had ended when its cancellation came; or while that was on its way."""
        heard = at + self._lease_seconds + SLACK_SECONDS
        for pid in {reader.follower.writer for reader in outcome.readers}:
            if self._chronicle.was_struck(pid, at - SLACK_SECONDS, heard):
                return _STATUS[outcome.plan.script.ends]
        ended = [ending.at for reader in outcome.readers for ending in reader.follower.endings]
        return _STATUS[outcome.plan.script.ends] if ended and min(ended) <= heard else "cancelled"

    def _log(self, outcome: Outcome) -> None:
        """What the log says at last: whole runs, and one end, at its end."""
        for (before, _), (after, _) in zip(outcome.log, outcome.log[1:], strict=False):
            if after.generation == before.generation and after.sequence != before.sequence + 1:
                self._blame("log", f"Its log goes from {before} to {after}.", outcome)
        ends = [event_id for event_id, kind in outcome.log if kind in TERMINAL]
        if len(ends) > 1 or (ends and ends[0] != outcome.log[-1][0]):
            self._blame("end", f"Its log has its end at {', '.join(map(str, ends))}.", outcome)
        if outcome.log and outcome.status in _STATUS.values() and outcome.log[-1][0] != outcome.last_id:
            self._blame("log", f"Its record ends at {outcome.last_id}, its log at {outcome.log[-1][0]}.", outcome)

    def _ends(self, outcome: Outcome) -> None:
        """One end, the same for everybody, and it is that of the record."""
        if outcome.status and outcome.status not in _STATUS.values():
            return
        last = (outcome.last_id, outcome.status)
        told = [(ending.id, _STATUS[ending.type]) for each in outcome.readers for ending in each.follower.endings]
        if not outcome.status and told:
            last = max(told)  # the record is lost; readers must agree all the same
        for reader in outcome.readers:
            for ending in reader.follower.endings:
                if (ending.id, _STATUS[ending.type]) == last:
                    continue
                if self._is_lost_end(outcome, reader, ending.at):
                    self._found.excuse("an end was told, and lost with its worker before it was safe")
                else:
                    says = f"It was told {ending.type!r} at {ending.id}, but the task ended with {last[0]}."
                    self._blame("end", says, outcome, reader)

    def _is_lost_end(self, outcome: Outcome, reader: Followed, at: float) -> bool:
        """Redis lost the end, and the worker that would have written it back was struck, or had been sure of it."""
        pids = {each.follower.writer for each in outcome.readers}
        for loss in self._chronicle.may_have_lost(outcome.task_id, at):
            until = loss.began + self._lease_seconds + _AFTERGLOW_SECONDS
            if any(self._chronicle.was_struck(pid, at - 2 * self._lease_seconds, until) for pid in pids):
                return True
            if loss.is_failover and loss.began - at > _AFTERGLOW_SECONDS:
                return True  # a replica was promoted that was further behind than a worker stays
        return False

    # One reader.

    def _reader(self, outcome: Outcome, reader: Followed) -> None:
        follower = reader.follower
        for violation in follower.violations:
            self._found.offences.append(
                Offence(violation, f"{outcome.name}, {follower.name}", tuple(follower.transcript))
            )
        self._gaps(outcome, reader)
        if reader.outcome in {"closed", "204"}:
            if not follower.endings:
                self._blame("stranded", "It was told 204, but never the end.", outcome, reader)
        elif reader.outcome == "404":
            self._unknown(outcome, reader)
        elif reader.outcome:
            self._blame("stranded", f"It was answered {reader.outcome}, which ends an EventSource.", outcome, reader)
        elif outcome.status in _STATUS.values():
            self._blame("stranded", "It still waits, although the task has ended.", outcome, reader)
        elif outcome.status == "":
            self._blame("stranded", "It still waits for a task that is unknown.", outcome, reader)

    def _unknown(self, outcome: Outcome, reader: Followed) -> None:
        """404. Right where Redis lost the task; a living worker should have written it back in time."""
        losses = self._chronicle.record_losses(outcome.task_id, outcome.started_at)
        losses = [loss for loss in losses if loss.began <= reader.at]
        if not losses:
            self._blame("stranded", "It was answered 404, although Redis lost nothing.", outcome, reader)
        elif outcome.status and self._came_first(reader, losses):
            self._found.excuse("404 to a reader without a cursor, before a worker could write the task back")
        elif outcome.status and not any(self._was_hindered(outcome, loss, reader.at) for loss in losses):
            self._blame("stranded", "It was answered 404, but the task lives on.", outcome, reader)
        elif outcome.status:
            self._found.excuse("404 for a task that was written back later, by a worker that was struck")

    def _came_first(self, reader: Followed, losses: Sequence[Incident]) -> bool:
        """Whether it knew nothing of the task yet, and asked before its worker noticed the loss, by a renewal.

        Servers wait for those only who come with a cursor: docs/decisions/0003-a-loss-is-told-after-one-lease.md.
        """
        noticed = self._lease_seconds / _RENEWALS + SLACK_SECONDS
        is_new = not reader.follower.at_since
        return is_new and any(reader.at - loss.lost_last <= noticed for loss in losses)

    def _was_hindered(self, outcome: Outcome, loss: Incident, at: float) -> bool:
        """Whether the worker could not write the task back in time: it was struck, or Redis had been away."""
        was_away = loss.is_failover or (loss.healed is not None and loss.healed - loss.began > SLACK_SECONDS)
        if was_away and loss.healed is not None and at - loss.healed < _BACK_SECONDS:
            return True
        pids = {each.follower.writer for each in outcome.readers}
        return any(self._chronicle.was_struck(pid, loss.began - 2 * self._lease_seconds, at) for pid in pids)

    def _gaps(self, outcome: Outcome, reader: Followed) -> None:
        gaps = reader.follower.gaps
        self._found.announced += len(gaps)
        self._found.missing += sum(gap.missing or 0 for gap in gaps)
        self._found.needless += sum(not gap.missing for gap in gaps)
        came_back_within = self._lease_seconds + _AFTERGLOW_SECONDS + SLACK_SECONDS
        holes = Holes(self._chronicle, outcome, max_events=self._max_events, came_back_within=came_back_within)
        for says in holes.unreal(gaps):
            self._blame("gap", says, outcome, reader)

    def _blame(self, kind: str, says: str, outcome: Outcome, reader: Followed | None = None) -> None:
        who = outcome.name if reader is None else f"{outcome.name}, {reader.follower.name}"
        at = reader.follower.clock() if reader else 0.0
        transcript = tuple(reader.follower.transcript) if reader else ()
        self._found.offences.append(Offence(Violation(kind, says, at), who, transcript))
