"""`python -m benchmarks`: what it refuses before anything is started, each with a sentence that says what to do."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--only", "z"],
            "There is no scenario 'z'. Choose from a, b, c, d, e, f, g, h, i, or micro or durability alone.",
        ),
        (["--only", "micro,b"], "'micro' goes alone: --only micro, and the scenarios in another run."),
        (["--peers", "mercure"], "There is no peer 'mercure'. Choose from reprise, nchan, tutorial."),
        (["--peers", "nchan", "--only", "d"], "Of 'nchan' none is in 'd': (d) has reprise."),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_way_out(arguments: list[str], sentence: str):
    refused = CliRunner().invoke(app, arguments)
    assert (refused.exit_code, " ".join(refused.stderr.split())) == (2, f"benchmarks: {sentence}")


def test_rounds_begin_at_one():
    refused = CliRunner().invoke(app, ["--rounds", "0"])
    assert refused.exit_code == 2
    assert "--rounds" in refused.stderr
