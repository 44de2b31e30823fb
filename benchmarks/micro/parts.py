"""The table of inner parts: what is measured, how often, and how it is printed."""

from __future__ import annotations

import platform
from collections.abc import Callable
from statistics import median
from typing import Final

from rich.console import Console
from rich.progress import track

from benchmarks.micro import internals, seeking

_ROUNDS: Final = 5

_PARTS: Final[tuple[tuple[str, str, Callable[[], float]], ...]] = (
    ("encode a frame", "µs", internals.frame),
    ("read a ring, per event", "µs", internals.ring),
    ("append to a window and serve", "µs", internals.window),
    ("fan-out to 1000 subscribers, per delivered event", "µs", internals.fan_out),
    ("one writer into Redis", "events/s", internals.append),
    ("find a moment among a million events", "reads", seeking.reads),
)


def measure_parts(*, console: Console) -> str:
    """Measure every part and return a Markdown table."""
    rows: list[str] = []
    for name, unit, measure in track(_PARTS, description="Measuring", console=console):
        found = [measure() for _ in range(_ROUNDS)]
        rows.append(f"| {name} | {median(found):,.2f} | {min(found):,.2f} | {max(found):,.2f} | {unit} |")
    head = f"Python {platform.python_version()}, {platform.machine()}, median of {_ROUNDS} rounds\n\n"
    return head + "| part | median | least | most | |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
