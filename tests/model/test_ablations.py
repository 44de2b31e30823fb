"""Every rule is needed: without it a stored schedule breaks a promise, with it the same schedule keeps them all."""

from __future__ import annotations

import pytest

from tests.model.ablations import ABLATIONS, SHRUNK, Ablation
from tests.model.schedule import play
from tests.model.world import Server


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_a_promise_breaks_without_the_rule_and_only_then(model_server: Server, ablation: Ablation):
    schedule = ablation.schedule()
    with ablation.replace():
        without = play(model_server, ablation.family, schedule, cuts=ablation.cuts, clients_only=ablation.clients_only)
    assert without.violation, f"{ablation.name}: the oracle no longer notices that the rule is missing."
    assert play(model_server, ablation.family, schedule).violation is None


def test_each_stored_schedule_belongs_to_an_ablation():
    assert {path.stem for path in SHRUNK.iterdir()} == {ablation.name for ablation in ABLATIONS}
