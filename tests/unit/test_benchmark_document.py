"""What README says about speed is what the published run of the benchmark found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
#: Scenario and place among its targets of each row of README's table.
_ROWS = [("a", 0), ("b", 0), ("c", 0), ("e", 0), ("f", 1)]


def published() -> dict[str, Any]:
    return json.loads((_ROOT / "docs" / "benchmarks.json").read_text())


def medians(scenario: str) -> list[float]:
    return [each["median"] for each in published()["targets"] if each["scenario"] == scenario]


def test_readme_repeats_the_published_medians():
    section = (_ROOT / "README.md").read_text().partition("## How fast\n")[2].partition("\n## ")[0]
    assert re.findall(r"\| ([0-9.]+) × \|", section) == [f"{medians(key)[place]:.2g}" for key, place in _ROWS]
    assert re.findall(r"\(([0-9.]+) KB\)", section) == [f"{medians('f')[0]:.1f}"]


def test_the_published_run_was_whole_met_every_target_and_took_less_than_ten_minutes():
    found = published()
    assert [each["text"] for each in found["targets"] if not each["is_met"]] == []
    assert {each["scenario"] for each in found["targets"]} == set("abcdefghi")
    assert found["circumstances"]["rounds"] >= 3
    assert found["circumstances"]["minutes"] < 10
