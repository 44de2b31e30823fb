"""The picture: one small panel of bars for each scenario in which designs are compared.

Needs matplotlib (requirements/bench.txt), which is imported only when a picture is drawn.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.peer import Design
from benchmarks.peers.processes import Unusable
from benchmarks.results import Results

PICTURE: Final = "benchmarks.svg"

_NAMES: Final[Mapping[Design, str]] = {
    Design.REPRISE: "Reprise",
    Design.NCHAN: "Nchan + Redis",
    Design.TUTORIAL: "XREAD per client",
}
_COLOURS: Final[Mapping[Design, str]] = {
    Design.REPRISE: "#0f766e",
    Design.NCHAN: "#94a3b8",
    Design.TUTORIAL: "#d6b48a",
}
_INK: Final = "#1e293b"
_FAINT: Final = "#64748b"
_COLUMNS: Final = 4


@dataclass(frozen=True, slots=True)
class _Panel:
    scenario: str
    figure: str
    title: str
    unit: str
    is_more_better: bool = False
    digits: int = 1


_PANELS: Final = (
    _Panel("a", "delivered_per_second", "1 → 1000, 1000 events/s offered", "delivered events/s", True, 0),
    _Panel("e", "delivered_per_second", "500 replay 2000 events at once", "replayed events/s", True, 0),
    _Panel("b", "server_us", "1 → 1000, 100 events/s", "µs of server CPU per delivery"),
    _Panel("b", "p99_ms", "1 → 1000, 100 events/s", "ms latency, p99"),
    _Panel("c", "server_and_redis_us", "1000 streams × 10 events/s", "µs of server and Redis CPU per event"),
    _Panel("f", "kb_per_connection", "10,000 idle subscribers", "KB resident per connection"),
    _Panel("g", "caught_up_seconds", "5000 lose their server", "s until all caught up"),
    _Panel("g", "half_caught_up_seconds", "5000 lose their server", "s until half caught up"),
)


def draw(folder: Path, results: Results) -> None:
    """Draw what was measured into `PICTURE`. Raises `Unusable` without matplotlib."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise Unusable(
            "The picture needs matplotlib: use `make bench`, or pip install -r requirements/bench.txt."
        ) from None
    settings = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": _INK,
        # The same results give the same file.
        "svg.hashsalt": "reprise",
        "svg.fonttype": "path",
    }
    with matplotlib.rc_context(settings):
        rows = -(-len(_PANELS) // _COLUMNS)
        figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(14, 2.35 * rows), layout="constrained")
        for axis, panel in zip(axes.flat, _PANELS, strict=True):
            _draw_panel(axis, panel, results)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.14)
        # Tight: a title may be wider than its panel.
        figure.savefig(
            folder / PICTURE, metadata={"Date": None}, facecolor="white", bbox_inches="tight", pad_inches=0.15
        )
        pyplot.close(figure)


def _draw_panel(axis: Any, panel: _Panel, results: Results) -> None:
    found = [(design, results.median_of(panel.scenario, design, panel.figure)) for design in _NAMES]
    bars = [(design, value) for design, value in found if value is not None]
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", pad=20)
    better = "more is better" if panel.is_more_better else "less is better"
    axis.text(0, 1.05, f"{panel.unit}, {better}", transform=axis.transAxes, color=_FAINT, fontsize=8)
    for side in ("top", "right", "bottom", "left"):
        axis.spines[side].set_visible(False)
    axis.set_xticks([])
    axis.tick_params(length=0)
    if not bars:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=_FAINT)
        return
    _draw_bars(axis, bars, digits=panel.digits)


def _draw_bars(axis: Any, bars: Sequence[tuple[Design, float]], *, digits: int) -> None:
    places = range(len(bars))
    axis.barh(places, [value for _, value in bars], color=[_COLOURS[design] for design, _ in bars], height=0.62)
    axis.set_yticks(places, [_NAMES[design] for design, _ in bars])
    axis.invert_yaxis()
    axis.set_ylim(len(_NAMES) - 0.5, -0.5)
    longest = max(value for _, value in bars)
    # Room for the number behind the longest bar.
    axis.set_xlim(0, longest * 1.32 or 1)
    for place, (design, value) in zip(places, bars, strict=True):
        weight = "bold" if design is Design.REPRISE else "normal"
        axis.text(value + longest * 0.02, place, f"{value:,.{digits}f}", va="center", fontweight=weight)
