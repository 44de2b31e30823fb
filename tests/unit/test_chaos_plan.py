"""Plans of chaos runs: a seed says everything."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.chaos.__main__ import main
from tests.chaos.plan import KINDS, TOPOLOGIES, Size, kinds_of, make_plan, targets

SIZE = Size(120)


def test_the_same_seed_is_the_same_plan():
    assert make_plan(7, SIZE) == make_plan(7, SIZE)
    assert make_plan(7, SIZE) != make_plan(8, SIZE)


def test_a_plan_with_fewer_kinds_of_faults_has_the_same_tasks_and_readers():
    few = make_plan(7, SIZE, ["kill-worker", "cut"])
    assert few.tasks == make_plan(7, SIZE).tasks
    assert {strike.kind for strike in few.strikes} == {"kill-worker", "cut"}
    assert make_plan(7, SIZE, []).strikes == ()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_kind_of_fault_finds_somebody_to_strike_and_none_is_struck_twice_at_once(topology: str):
    size = replace(SIZE, seconds=2400, topology=topology)
    strikes = make_plan(7, size).strikes
    assert {strike.kind for strike in strikes} == set(kinds_of(topology))
    assert {strike.target for strike in strikes} == set(targets(size))
    for target in targets(size):
        ours = [strike for strike in strikes if strike.target == target]
        assert all(before.at + before.seconds <= after.at for before, after in pairwise(ours)), target


def test_every_kind_of_fault_is_known_to_some_topology():
    assert {kind for topology in TOPOLOGIES for kind in kinds_of(topology)} == set(KINDS)


def test_a_command_line_prints_its_plan_and_how_to_repeat_it(capsys: pytest.CaptureFixture[str]):
    assert main(["--seed", "7", "--minutes", "0.5", "--faults", "cut", "--plan"]) == 0
    printed = capsys.readouterr().out
    assert 'make chaos CHAOS_ARGS="--seed 7 --minutes 0.5 --faults cut"' in printed
    assert printed.count("  cut  ") == len(make_plan(7, Size(30), ["cut"]).strikes)


def test_an_unknown_kind_of_fault_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refused:
        main(["--faults", "plague"])
    assert refused.value.code == 2
    assert "'plague' is no kind of fault. There are: kill-server, " in capsys.readouterr().err


def test_a_fault_that_strikes_nobody_in_a_topology_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refused:
        main(["--topology", "cluster", "--faults", "cut,flush-redis"])
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "'flush-redis' strikes nobody with --topology cluster. There are: kill-server, " in said


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--minutes", "soon"), "'soon' is not a number above 0."),
        (("--interval", "nan"), "'nan' is not a number above 0."),
        (("--servers", "0"), "'0' is not a whole number from 1 to "),
        (("--seed", "-1"), "'-1' is no seed"),
        (("--topology", "ring"), "'ring'"),
        (("--keep", "/dev/null/here"), "'/dev/null/here' cannot be a folder"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_a_sentence(
    option: tuple[str, str], says: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as refused:
        main(["=".join(option)])
    assert refused.value.code == 2
    assert says in capsys.readouterr().err
