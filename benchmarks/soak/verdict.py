"""Whether a series is flat: the line that fits it best rises by less than is tolerated, from its first sample to its
last.

A slope and not two ends: memory comes and goes in steps, and a leak is what goes one way only. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much a series may rise: the larger of a share of its median, and a number of its unit."""

    share: float
    least: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one series."""

    name: str
    unit: str
    median: float
    #: Of the fitted line, over the whole time; below 0 if it falls.
    rise: float
    tolerated: float

    @property
    def is_flat(self) -> bool:
        return self.rise <= self.tolerated

    def __str__(self) -> str:
        found = "flat" if self.is_flat else "GROWS"
        return (
            f"{self.name}: {found}: median {self.median:,.1f} {self.unit}, rises by {self.rise:,.2f}, "
            f"tolerated {self.tolerated:,.2f}"
        )


def judge(name: str, unit: str, times: Sequence[float], values: Sequence[float], tolerance: Tolerance) -> Verdict:
    """The verdict on a series; `times` in seconds. A series of fewer than three samples says nothing and raises."""
    if len(values) < 3:
        raise ValueError(f"{name} has {len(values)} samples; a slope needs more. Run for longer.")
    middle = median(values)
    slope = linear_regression(times, values).slope
    return Verdict(name, unit, middle, slope * (times[-1] - times[0]), max(tolerance.share * middle, tolerance.least))
