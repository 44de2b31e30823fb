"""What a scenario is: something to run on a design, figures that come out, and what they must reach.

Invariant: a target compares figures of one round, so that what the machine did meanwhile touched both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.peers.peer import Design
from benchmarks.stage import Stage

#: What one run found, by name.
Figures: TypeAlias = Mapping[str, float]
#: What one round found, by scenario and design.
Round: TypeAlias = Mapping[tuple[str, Design], Figures]


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure in the table."""

    figure: str
    label: str
    unit: str
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Target:
    """What the product must reach; the median over all rounds counts."""

    text: str
    #: None where a round lacks what it needs.
    value: Callable[[Round], float | None]
    bound: float
    is_at_least: bool
    digits: int = 2

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.is_at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario."""

    key: str
    title: str
    run: Callable[[Stage, Design], Figures]
    #: Who runs in every round.
    designs: tuple[Design, ...]
    #: Who runs in the first round only, being slow; all rounds are compared with that.
    run_once: tuple[Design, ...] = ()
    #: For what takes long to prepare: the figures of all rounds from one run, in the first round; `run` is then unused.
    run_rounds: Callable[[Stage, Design, int], Sequence[Figures]] | None = None
    shown: tuple[Shown, ...] = ()
    targets: tuple[Target, ...] = ()


def figure_of(key: str, figure: str, design: Design = Design.REPRISE) -> Callable[[Round], float | None]:
    """One figure of one design."""

    def value(found: Round) -> float | None:
        figures = found.get((key, design))
        return figures[figure] if figures else None

    return value


def ratio(
    above: Callable[[Round], float | None], below: Callable[[Round], float | None]
) -> Callable[[Round], float | None]:
    """One figure divided by another of the same round."""

    def value(found: Round) -> float | None:
        numerator, denominator = above(found), below(found)
        return None if numerator is None or not denominator else numerator / denominator

    return value


def times(key: str, figure: str, other: Design = Design.NCHAN) -> Callable[[Round], float | None]:
    """The product's figure as a multiple of another design's."""
    return ratio(figure_of(key, figure), figure_of(key, figure, other))
