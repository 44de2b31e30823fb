"""Results as Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from benchmarks.peers.peer import Design
from benchmarks.results import Judged, Results
from benchmarks.scenarios.scenario import Scenario, Shown

NAMES: Final[Mapping[Design, str]] = {
    Design.REPRISE: "Reprise",
    Design.NCHAN: "Nchan + Redis",
    Design.TUTORIAL: "one `XREAD` per client",
}
_NOTHING: Final = "–"


def figures_table(results: Results) -> str:
    """Every figure of every scenario, the median of its rounds, one column for each design."""
    lines = [
        "| | scenario | figure | " + " | ".join(NAMES.values()) + " |",
        "|---|---|---|" + "---:|" * len(NAMES),
    ]
    for scenario in results.scenarios:
        for index, shown in enumerate(scenario.shown):
            key, title = (scenario.key, scenario.title) if not index else ("", "")
            cells = (_figure(results, scenario, design, shown) for design in NAMES)
            lines.append(f"| {key} | {title} | {shown.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def targets_table(results: Results) -> str:
    """Every target with each round's value, their median, and whether it is met."""
    lines = ["| | target | rounds | median | required | |", "|---|---|---|---:|---:|---|"]
    for scenario in results.scenarios:
        for target in scenario.targets:
            judged = results.judge(target)
            lines.append(
                f"| {scenario.key} | {target.text} | {_rounds(judged)} | {_median(judged)} | {_bound(judged)} |"
            )
    return "\n".join(lines)


def bullet_list(sentences: Iterable[str]) -> str:
    return "\n".join(f"* {each}" for each in sentences)


def _figure(results: Results, scenario: Scenario, design: Design, shown: Shown) -> str:
    found = results.median_of(scenario.key, design, shown.figure)
    return _NOTHING if found is None else f"{found:,.{shown.digits}f} {shown.unit}".strip()


def _rounds(judged: Judged) -> str:
    return ", ".join(f"{value:,.{judged.target.digits}f}" for value in judged.values) or _NOTHING


def _median(judged: Judged) -> str:
    return _NOTHING if judged.median is None else f"**{judged.median:,.{judged.target.digits}f}**"


def _bound(judged: Judged) -> str:
    sign = "≥" if judged.target.is_at_least else "≤"
    verdict = {True: "met", False: "**missed**", None: "not measured"}[judged.is_met]
    return f"{sign} {judged.target.bound:,g} | {verdict}"
