"""A short run of the chaos suite (`make chaos` is the long one), and that its checker would see what goes wrong.

The seeds are fixed, and each run prints its plan's: what a failing one saw is in its report.
"""

from __future__ import annotations

import pytest

from tests.chaos.plan import Size, make_plan
from tests.chaos.run import run_chaos

#: About as much as two cores carry besides other tests.
SIZE = Size(18, servers=2, workers=3, tasks=8, interval=1.1)
SEED = 4940
#: Logs are short, so readers that come late, or are away for a while, have to be told of a gap.
BLIND_SIZE = Size(8, servers=1, workers=2, tasks=8, interval=0.6, max_events=100)
#: How processes come to be interleaved no seed decides: one of these plans has its hole, whatever the machine does.
BLIND_SEEDS = (1, 2, 3)
CALM_SECONDS = 100

pytestmark = [pytest.mark.slow, pytest.mark.timeout(len(BLIND_SEEDS) * (SIZE.seconds + CALM_SECONDS) + 60)]


def replay(seed: int, size: Size) -> str:
    return f"make_plan({seed}, {size})"


async def test_no_reader_is_misled_whatever_is_killed_frozen_cut_off_or_lost():
    report = await run_chaos(make_plan(SEED, SIZE), replay=replay(SEED, SIZE))
    assert report.is_clean, str(report)
    assert sum(report.faults.values()) == len(make_plan(SEED, SIZE).strikes)
    assert {outcome.status for outcome in report.outcomes} >= {"completed"}


async def test_without_the_check_of_continuity_the_same_suite_finds_holes_that_nobody_announced():
    report = None
    for seed in BLIND_SEEDS:
        plan = make_plan(seed, BLIND_SIZE, ["delete-log", "cut"])
        report = await run_chaos(plan, replay=replay(seed, BLIND_SIZE), is_blind=True)
        assert report.judgement.announced == 0, str(report)
        if report.judgement.count("hole"):
            break
    assert report
    assert not report.is_clean, str(report)
    assert report.judgement.count("hole") > 0, str(report)
