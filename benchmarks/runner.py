"""Runs scenarios: rounds, designs in turn within a round, progress on the screen, and failures kept for the end.

Invariant: whatever happens, the folder of the run and every program in it are gone afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.load.transcript import Broken
from benchmarks.peers.peer import Design
from benchmarks.peers.processes import Unusable
from benchmarks.results import Results, Run
from benchmarks.scenarios.scenario import Figures, Scenario
from benchmarks.stage import Stage


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    scenarios: Sequence[Scenario]
    designs: Collection[Design]
    rounds: int

    def runs(self) -> Iterator[tuple[int, Scenario, Design]]:
        """Round by round; within a scenario the designs take turns, and turns at going first."""
        for number in range(1, self.rounds + 1):
            for scenario in self.scenarios:
                if number > 1 and scenario.run_rounds:
                    continue
                everyone = [*scenario.designs, *(scenario.run_once if number == 1 else ())]
                chosen = [each for each in everyone if each in self.designs]
                yield from ((number, scenario, each) for each in (chosen if number % 2 else chosen[::-1]))


def run_plan(plan: Plan, *, console: Console) -> tuple[Results, list[str]]:
    """Run everything; returns what was found, and a sentence for each run that failed."""
    results = Results(plan.scenarios)
    failures: list[str] = []
    todo = list(plan.runs())
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as folder, _Screen(console, len(todo)) as screen:
        # nginx gives up root, and its worker must get to its files.
        Path(folder).chmod(0o755)
        stage = Stage(Path(folder), on_step=screen.step)
        for number, scenario, design in todo:
            screen.begin(f"({scenario.key}) {design.value}, round {number} of {plan.rounds}")
            try:
                found = _figures(scenario, stage, design, rounds=plan.rounds)
            except (Broken, Unusable) as failure:
                failures.append(f"{screen.name}: {failure}")
                screen.end(f"[red]failed[/red]: {failure}")
            else:
                results.runs += [Run(scenario.key, design, number + index, each) for index, each in enumerate(found)]
                screen.end(" | ".join(_summary(scenario, each) for each in found))
    return results, failures


def _figures(scenario: Scenario, stage: Stage, design: Design, *, rounds: int) -> Sequence[Figures]:
    return scenario.run_rounds(stage, design, rounds) if scenario.run_rounds else [scenario.run(stage, design)]


def _summary(scenario: Scenario, figures: Figures) -> str:
    shown = (f"{each.label} {figures[each.figure]:,.{each.digits}f} {each.unit}".strip() for each in scenario.shown)
    return "; ".join(shown)


class _Screen:
    """Two bars, and a line above them for each run that has ended."""

    def __init__(self, console: Console, runs: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description:48}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._all = self._progress.add_task("all runs", total=runs)
        self._current = self._progress.add_task("", total=100)
        self.name = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, name: str) -> None:
        self.name = name
        self.step("", 0.0)

    def step(self, text: str, share: float) -> None:
        self._progress.update(self._current, description=f"{self.name}: {text}", completed=int(share * 100))

    def end(self, outcome: str) -> None:
        self._progress.console.print(f"{self.name}: {outcome}", highlight=False)
        self._progress.advance(self._all)
