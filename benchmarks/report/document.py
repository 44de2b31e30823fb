"""The page that results are published on: generated parts between markers, and the same as JSON beside it.

Invariant: what stands outside the markers is written by hand and never touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.processes import Unusable
from benchmarks.report.table import bullet_list, figures_table, targets_table
from benchmarks.results import Judged, Results

PAGE: Final = "benchmarks.md"
DATA: Final = "benchmarks.json"

_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a result cannot be understood without."""

    #: The command, as it was typed.
    command: str
    date: str
    minutes: float
    rounds: int
    placement: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    redis_options: Mapping[str, str]


def parts(results: Results, circumstances: Circumstances) -> dict[str, str]:
    """The generated parts by the name of their marker."""
    return {
        "figures": figures_table(results),
        "targets": targets_table(results),
        "circumstances": _circumstances(circumstances),
        "warnings": bullet_list(results.warnings()) or "None.",
    }


def write_page(folder: Path, generated: Mapping[str, str]) -> None:
    """Put the generated parts between their markers. Raises `Unusable` if there is no page."""
    page = folder / PAGE
    if not page.exists():
        raise Unusable(f"There is no {page} to put the results into. Give --output a folder that has one: docs.")
    page.write_text(_PART.sub(lambda part: f"{part[1]}{generated[part[2]]}\n{part[3]}", page.read_text()))


def write_data(folder: Path, results: Results, circumstances: Circumstances) -> None:
    """Everything that was found, each round by itself."""
    found: dict[str, Any] = {
        "circumstances": asdict(circumstances),
        "targets": [
            _judged(scenario.key, results.judge(target))
            for scenario in results.scenarios
            for target in scenario.targets
        ],
        "runs": [
            {
                "scenario": run.scenario,
                "design": run.design.value,
                "round": run.round,
                "figures": {name: round(value, 4) for name, value in run.figures.items()},
            }
            for run in results.runs
        ],
        "warnings": results.warnings(),
    }
    (folder / DATA).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def _judged(scenario: str, judged: Judged) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "text": judged.target.text,
        "rounds": [round(value, 4) for value in judged.values],
        "median": None if judged.median is None else round(judged.median, 4),
        "bound": judged.target.bound,
        "is_at_least": judged.target.is_at_least,
        "is_met": judged.is_met,
    }


def _circumstances(found: Circumstances) -> str:
    versions = ", ".join(f"{name} {each}" for name, each in found.versions.items())
    options = ", ".join(f"{name} {value or '(none)'}" for name, value in found.redis_options.items())
    return bullet_list(
        [
            f"`{found.command}`, {found.date}, {found.minutes:.1f} minutes, {found.rounds} rounds.",
            f"{found.machine['processor']}, {found.machine['memory']}, {found.machine['system']}.",
            f"{versions}.",
            f"Placement: {found.placement}.",
            f"Each Redis: {options}; the rest as Redis has it.",
        ]
    )
