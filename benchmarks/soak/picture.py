"""What a soak looked like: one small line for each series, as an SVG that is written by hand.

The picture of `make bench` needs matplotlib; a soak needs nothing but what the tests need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.soak.samples import TOLERANCES, Series
from benchmarks.soak.verdict import Verdict

_WIDTH: Final = 320
_HEIGHT: Final = 90
_COLUMNS: Final = 3
_TOP: Final = 34
_GAP: Final = 28
_INK: Final = "#1e293b"
_FAINT: Final = "#64748b"
_LINE: Final = "#0f766e"
_GROWS: Final = "#b91c1c"


def draw(series: Series, verdicts: Sequence[Verdict], *, judged_since: float) -> str:
    """The text of an SVG. What lies before `judged_since` is grey: warming up."""
    rows = -(-len(TOLERANCES) // _COLUMNS)
    width, height = _COLUMNS * (_WIDTH + _GAP) + _GAP, rows * (_HEIGHT + _TOP + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, verdict in enumerate(verdicts):
        x = _GAP + place % _COLUMNS * (_WIDTH + _GAP)
        y = _GAP + place // _COLUMNS * (_HEIGHT + _TOP + _GAP)
        parts += _panel(series, verdict, judged_since, x, y)
    return "\n".join([*parts, "</svg>", ""])


def _panel(series: Series, verdict: Verdict, judged_since: float, x: int, y: int) -> list[str]:
    times, values = series.times, series.values[verdict.name]
    highest = max(*values, 1e-9) * 1.1
    begin, span = times[0], max(times[-1] - times[0], 1e-9)

    def points(first: int, last: int) -> str:
        return " ".join(
            f"{x + (times[at] - begin) / span * _WIDTH:.1f},{y + _TOP + _HEIGHT * (1 - values[at] / highest):.1f}"
            for at in range(first, last)
        )

    judged = next((at for at, time in enumerate(times) if time >= judged_since), len(times))
    colour = _LINE if verdict.is_flat else _GROWS
    said = f"median {verdict.median:,.1f} {verdict.unit}, rises by {verdict.rise:+,.2f}"
    return [
        f'<text x="{x}" y="{y + 12}" font-size="13" font-weight="bold" fill="{_INK}">{escape(verdict.name)}</text>',
        f'<text x="{x}" y="{y + 27}" font-size="11" fill="{_FAINT}">{escape(said)}</text>',
        f'<line x1="{x}" y1="{y + _TOP + _HEIGHT}" x2="{x + _WIDTH}" y2="{y + _TOP + _HEIGHT}" stroke="#cbd5e1"/>',
        f'<polyline points="{points(0, judged + 1)}" fill="none" stroke="#cbd5e1" stroke-width="1.5"/>'
        if judged < len(times)
        else "",
        f'<polyline points="{points(judged, len(times))}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
    ]
