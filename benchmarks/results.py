"""What a run of the benchmark found, and what follows from it: medians, and which targets are met. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.peers.peer import Design
from benchmarks.scenarios.delivery import SATURATED
from benchmarks.scenarios.scenario import Figures, Round, Scenario, Target

#: More than this of a processor spent by others makes times and latencies mean little.
_BUSY: Final = 0.15


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario on one design in one round."""

    scenario: str
    design: Design
    round: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Judged:
    """A target with what each round gave."""

    target: Target
    values: tuple[float, ...]

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def is_met(self) -> bool | None:
        """None where no round could tell."""
        return None if self.median is None else self.target.is_met(self.median)


@dataclass(slots=True)
class Results:
    """Everything that was found."""

    scenarios: Sequence[Scenario]
    runs: list[Run] = field(default_factory=list[Run])

    def median_of(self, scenario: str, design: Design, figure: str) -> float | None:
        found = [
            each.figures[figure]
            for each in self.runs
            if each.scenario == scenario and each.design is design and figure in each.figures
        ]
        return median(found) if found else None

    def judge(self, target: Target) -> Judged:
        values = (target.value(found) for found in self._rounds())
        return Judged(target, tuple(value for value in values if value is not None))

    def warnings(self) -> list[str]:
        """Sentences about runs whose figures may be those of something else."""
        return [sentence for each in self.runs for sentence in _doubts(each)]

    def _rounds(self) -> Iterable[Round]:
        # Who runs once stands in every round.
        lasting = {
            (scenario.key, design): run.figures
            for scenario in self.scenarios
            for design in scenario.run_once
            for run in self.runs
            if (run.scenario, run.design) == (scenario.key, design)
        }
        for number in sorted({each.round for each in self.runs}):
            own = {(each.scenario, each.design): each.figures for each in self.runs if each.round == number}
            yield lasting | own


def _doubts(run: Run) -> Iterable[str]:
    where = f"({run.scenario}) {run.design.value}, round {run.round}"
    load, server = run.figures.get("load_share", 0.0), run.figures.get("server_share", 0.0)
    if load > SATURATED and server < SATURATED:
        yield f"{where}: the load generator used {load:.0%} of a processor and may be what was measured."
    if (others := run.figures.get("others_share", 0.0)) > _BUSY:
        yield f"{where}: other programs used {others:.0%} of a processor meanwhile."
