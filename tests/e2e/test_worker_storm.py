"""Tasks in a storm: four workers, one of them killed every second and another frozen now and then.

A short storm in the suite. REPRISE_STORM_SECONDS=60 is the whole one: 200 tasks and 60 kills. Its figures are printed
(`-s`); no number of them is asserted but that there was a storm at all.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.product import product
from tests.e2e.storm import Storm, check

SECONDS = int(os.environ.get("REPRISE_STORM_SECONDS", "8"))
TASKS = SECONDS * 10 // 3
#: For the last attempt of the last task.
CALM_SECONDS = 150.0
SETTINGS = {"REPRISE_LEASE_SECONDS": "1.5", "REPRISE_SWEEP_SECONDS": "0.5"}

pytestmark = pytest.mark.timeout(SECONDS + 2 * CALM_SECONDS)


async def test_every_task_ends_once_in_a_storm_of_killed_and_frozen_workers(tmp_path: Path):
    async with product(tmp_path, workers=4, settings=SETTINGS, modules=("tests.tasks.storm",)) as found:
        storm = Storm(found, seed=4)
        await storm.run(seconds=SECONDS, tasks=TASKS, calm_seconds=CALM_SECONDS)
    print(f"\nStorm of {SECONDS} s: {storm.figures}")  # noqa: T201 - the figures of the long one are what it is run for
    assert len(storm.seen) == TASKS
    for seen in storm.seen:
        check(seen, storm.dead_letters)
    assert storm.figures.kills == SECONDS
    assert storm.figures.take_overs, "Nobody lost a task: that was no storm."
