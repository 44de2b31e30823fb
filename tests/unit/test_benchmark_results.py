"""What the benchmark concludes: medians of ratios within a round, and a page whose own words stay."""

import json
from pathlib import Path

import pytest

from benchmarks.peers.peer import Design
from benchmarks.report.document import Circumstances, parts, write_data, write_page
from benchmarks.results import Results, Run
from benchmarks.runner import Plan
from benchmarks.scenarios.catalogue import SCENARIOS

FLOOD = SCENARIOS[0]
CIRCUMSTANCES = Circumstances(
    command="python -m benchmarks",
    date="2026-01-02",
    minutes=1.5,
    rounds=3,
    placement="anywhere",
    machine={"processor": "2 × P", "memory": "4 GB", "system": "S"},
    versions={"Python": "3"},
    redis_options={"save": ""},
)


def flood(number: int, reprise: float, nchan: float) -> list[Run]:
    return [
        Run("a", Design.REPRISE, number, {"delivered_per_second": reprise}),
        Run("a", Design.NCHAN, number, {"delivered_per_second": nchan}),
    ]


def results(*runs: Run) -> Results:
    return Results([FLOOD], list(runs))


def test_the_median_is_that_of_the_ratios_of_each_round():
    found = results(*flood(1, 600, 100), *flood(2, 900, 300), *flood(3, 800, 100))
    judged = found.judge(FLOOD.targets[0])
    assert (judged.values, judged.median, judged.is_met) == ((6.0, 3.0, 8.0), 6.0, True)


def test_a_round_without_the_rival_judges_nothing():
    judged = results(*flood(1, 600, 100)[:1]).judge(FLOOD.targets[0])
    assert (judged.values, judged.median, judged.is_met) == ((), None, None)


def test_a_design_that_ran_once_is_compared_with_every_round():
    lost_server = SCENARIOS[6]
    runs = [Run("g", Design.REPRISE, number, {"caught_up_seconds": 2.0 * number}) for number in (1, 2)]
    runs.append(Run("g", Design.TUTORIAL, 1, {"caught_up_seconds": 10.0}))
    assert Results([lost_server], runs).judge(lost_server.targets[0]).values == (0.2, 0.4)


def test_a_saturated_load_generator_and_a_busy_machine_are_told():
    saturated = Run("a", Design.NCHAN, 1, {"load_share": 0.97, "server_share": 0.5, "others_share": 0.01})
    busy = Run("a", Design.REPRISE, 2, {"load_share": 0.5, "server_share": 0.99, "others_share": 0.8})
    assert results(saturated, busy).warnings() == [
        "(a) nchan, round 1: the load generator used 97% of a processor and may be what was measured.",
        "(a) reprise, round 2: other programs used 80% of a processor meanwhile.",
    ]


def test_designs_take_turns_at_going_first_and_some_run_once():
    plan = Plan([FLOOD], list(Design), rounds=2)
    assert [(number, design) for number, _, design in plan.runs()] == [
        (1, Design.REPRISE),
        (1, Design.NCHAN),
        (1, Design.TUTORIAL),
        (2, Design.NCHAN),
        (2, Design.REPRISE),
    ]


def test_every_figure_that_a_page_shows_or_judges_has_a_name_of_its_own():
    keys = [scenario.key for scenario in SCENARIOS]
    assert keys == list("abcdefghi")
    texts = [(scenario.key, target.text) for scenario in SCENARIOS for target in scenario.targets]
    assert len(set(texts)) == len(texts)


def test_results_replace_what_is_between_the_markers_and_nothing_else(tmp_path: Path):
    page = tmp_path / "benchmarks.md"
    page.write_text("# Mine\n<!-- generated: figures -->\nold\n<!-- end -->\nkept\n")
    found = results(*flood(1, 600, 100))
    write_page(tmp_path, parts(found, CIRCUMSTANCES))
    write_data(tmp_path, found, CIRCUMSTANCES)
    text = page.read_text()
    assert text.startswith("# Mine\n<!-- generated: figures -->\n| | scenario |")
    assert text.endswith("|\n<!-- end -->\nkept\n")
    assert (
        "| a | 1 stream, 1000 subscribers, 1000 events/s offered | delivered | 600 events/s | 100 events/s | – |"
        in text
    )
    data = json.loads((tmp_path / "benchmarks.json").read_text())
    assert data["targets"][0]["median"] == pytest.approx(6.0)
    assert [run["design"] for run in data["runs"]] == ["reprise", "nchan"]
