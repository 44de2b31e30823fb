"""Whether a series of a soak grows: what comes and goes is flat, what only comes is not."""

from __future__ import annotations

import math
import random
from xml.etree import ElementTree as ET

import pytest

from benchmarks.soak.picture import draw
from benchmarks.soak.samples import TOLERANCES, Series
from benchmarks.soak.verdict import Tolerance, judge

TIMES = [float(second) for second in range(0, 1800, 2)]
TOLERANCE = Tolerance(0.05, 3.0)


def noisy(rise: float, *, middle: float = 80.0, noise: float = 2.0) -> list[float]:
    random.seed(3)
    return [middle + rise * at / TIMES[-1] + random.uniform(-noise, noise) + noise * math.sin(at / 60) for at in TIMES]


@pytest.mark.parametrize("rise", [-30.0, 0.0, 2.0, 3.5])
def test_what_comes_and_goes_is_flat(rise: float):
    assert judge("memory", "MiB", TIMES, noisy(rise), TOLERANCE).is_flat


@pytest.mark.parametrize("rise", [5.5, 50.0])
def test_what_only_comes_is_not(rise: float):
    verdict = judge("memory", "MiB", TIMES, noisy(rise), TOLERANCE)
    assert not verdict.is_flat
    assert verdict.rise == pytest.approx(rise, abs=1)
    assert "GROWS" in str(verdict)


def test_a_step_in_the_middle_of_a_large_size_is_no_leak_and_one_that_goes_on_is():
    step = [100.0 if at < 900 else 102.0 for at in TIMES]
    stairs = [100.0 + at // 180 * 2 for at in TIMES]
    assert judge("memory", "MiB", TIMES, step, TOLERANCE).is_flat
    assert not judge("memory", "MiB", TIMES, stairs, TOLERANCE).is_flat


def test_a_handful_more_of_little_is_tolerated():
    verdict = judge("files", "", TIMES, noisy(2.5, middle=10, noise=0.5), TOLERANCE)
    assert (verdict.is_flat, verdict.tolerated) == (True, 3.0)


def test_too_few_samples_are_said():
    with pytest.raises(ValueError, match="Run for longer"):
        judge("memory", "MiB", [0.0, 1.0], [1.0, 1.0], TOLERANCE)


def test_the_picture_shows_every_series_and_marks_what_grows():
    series = Series()
    for at in TIMES[:50]:
        series.add(at, dict.fromkeys(TOLERANCES, 50.0) | {"worker memory": at * 10})
    verdicts = list(series.judged(since=20))
    drawn = draw(series, verdicts, judged_since=20)
    ET.fromstring(drawn)  # noqa: S314 (our own text)
    assert [name for name in TOLERANCES if f">{name}<" not in drawn] == []
    assert drawn.count("#b91c1c") == 1
