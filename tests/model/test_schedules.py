"""Random schedules of both families: no promise is broken.

`REPRISE_MODEL_SCHEDULES` is how many of each (in blocks, so that they run side by side), `REPRISE_MODEL_SEED` where the
seeds begin. A failure shows the seed, the schedule shrunk to what it takes, and what each client saw.
"""

from __future__ import annotations

import os

import pytest

from tests.model.draw import draw, shrink
from tests.model.schedule import OWNED, SHARED, Outcome, Schedule, play
from tests.model.world import Server

_COUNT = int(os.environ.get("REPRISE_MODEL_SCHEDULES", "250"))
_FIRST = int(os.environ.get("REPRISE_MODEL_SEED", "0"))
_BLOCKS = max(_COUNT // 100, 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", range(_BLOCKS))
@pytest.mark.parametrize("family", [OWNED, SHARED])
def test_no_promise_is_broken(model_server: Server, family: str, block: int):
    for seed in range(_FIRST + block * _COUNT // _BLOCKS, _FIRST + (block + 1) * _COUNT // _BLOCKS):
        schedule = draw(family, seed)
        if _is_broken(model_server, family, schedule):
            pytest.fail(_report(model_server, family, seed, schedule), pytrace=False)


def _is_broken(server: Server, family: str, schedule: Schedule) -> bool:
    """Whether it fails, but not by the one chance in a thousand that two random numbers make the same generation."""
    found = play(server, family, schedule).violation
    if found and "had other contents before" in found:
        return any(play(server, family, schedule, numbers=numbers).violation for numbers in (2, 3, 4))
    return found is not None


def _report(server: Server, family: str, seed: int, schedule: Schedule) -> str:
    least = shrink(schedule, lambda shorter: play(server, family, shorter).violation is not None)
    outcome = play(server, family, least)
    return "\n".join([f"{family} schedule {seed}: {outcome.violation}", *least, *_sights(outcome)])


def _sights(outcome: Outcome) -> list[str]:
    return [f"{name} saw:\n    " + "\n    ".join(journal) for name, journal in outcome.journals.items() if journal]
