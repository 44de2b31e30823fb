"""The report of a run, as text. Knows figures, not how they came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.checker import Judgement, Offence
from tests.chaos.outcome import Outcome

#: So many offenders are shown with all they saw; the others in one line each.
_SHOWN = 5
_LISTED = 40


@dataclass
class Report:
    seed: int
    topology: str
    #: The command that repeats the plan.
    replay: str
    seconds: float
    faults: dict[str, int]
    #: How often another server became the master.
    failovers: int
    events_written_back: int
    outcomes: Sequence[Outcome]
    judgement: Judgement
    #: Seconds waited before each reconnection, of all readers.
    waits: Sequence[float] = field(default=())

    @property
    def is_clean(self) -> bool:
        return not self.judgement.offences

    def __str__(self) -> str:
        found, readers = self.judgement, [reader for outcome in self.outcomes for reader in outcome.readers]
        followers = [reader.follower for reader in readers]
        ends = Counter(outcome.status or "vanished" for outcome in self.outcomes)
        rows = [
            ("seed", str(self.seed)),
            ("topology", self.topology),
            ("seconds", f"{self.seconds:.0f}"),
            ("faults", f"{sum(self.faults.values())}: {_counts(self.faults)}"),
            ("failovers", str(self.failovers)),
            ("tasks by end", f"{len(self.outcomes)}: {_counts(ends)}"),
            ("attempts", str(sum(outcome.attempt for outcome in self.outcomes))),
            ("readers", f"{len(readers)}: {_counts(Counter(reader.outcome or 'waiting' for reader in readers))}"),
            ("events", str(sum(follower.events for follower in followers))),
            ("connections", str(sum(reader.connections for reader in readers))),
            ("reconnects", str(sum(max(0, reader.connections - 1) for reader in readers))),
            ("waited before them", _spread(self.waits)),
            ("attempts told", str(sum(follower.attempts for follower in followers))),
            ("longest silence", self._silence()),
            ("stalls told", str(sum(follower.stalls for follower in followers))),
            ("holes announced", f"{found.announced}, {found.missing} events; {found.needless} with nothing missing"),
            ("holes unannounced", str(found.count("hole"))),
            ("repeats", str(found.count("repeat"))),
            ("events repaired", f"{self.events_written_back} written back by workers, under the ids they had"),
            ("other violations", _counts(self._others()) or "0"),
            ("excused", _counts(found.excused) or "nothing"),
        ]
        lines = [f"{name:18} {value}" for name, value in rows]
        return "\n".join(["", *lines, *self._offenders()])

    def _silence(self) -> str:
        """The longest time between two events that one reader saw, disconnected or not."""
        found = [(reader.follower, outcome.name) for outcome in self.outcomes for reader in outcome.readers]
        if not found:
            return "nothing"
        longest, task = max(found, key=lambda each: each[0].longest_silence)
        return f"{longest.longest_silence:.1f} s until {longest.silent_until:.1f} s: {task}, {longest.name}"

    def _others(self) -> dict[str, int]:
        kinds = (each.violation.kind for each in self.judgement.offences)
        return dict(Counter(kind for kind in kinds if kind not in {"hole", "repeat"}))

    def _offenders(self) -> list[str]:
        offences = self.judgement.offences
        if not offences:
            return ["", "Every promise was kept."]
        lines = ["", f"{len(offences)} violations. The same plan again: {self.replay}"]
        lines += [_line(each) for each in offences[:_LISTED]]
        shown: set[str] = set()
        for offence in offences:
            # One reader of each task: the others of it saw about the same.
            task = offence.who.partition(",")[0]
            if offence.transcript and task not in shown and len(shown) < _SHOWN:
                shown.add(task)
                lines += ["", f"What {offence.who} saw last:", *(f"    {line}" for line in offence.transcript)]
        return lines


def _line(offence: Offence) -> str:
    violation = offence.violation
    return f"{violation.at:8.2f} s  {violation.kind:8} {offence.who}: {violation.says}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "nothing"
    ordered = sorted(values)
    middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100]
    return f"{ordered[0]:.1f} s to {ordered[-1]:.1f} s, median {middle:.1f} s, 95 % below {late:.1f} s"
