"""A followed task on a terminal."""

import json
from typing import Any

import pytest

from server.cli.decoding import Received
from server.cli.run import outcome
from server.cli.screen import Screen

EVIL = "a\x1b]0;mine\x07\x9b31m\u202eb"


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("token", {"text": EVIL}),
        ("token", EVIL),
        ("log", EVIL),
        ("log", {"text": EVIL}),
        ("progress", {"percentage": 5, "message": EVIL}),
        ("stalled", {"reason": "retry", "error": EVIL, "not_before": "then"}),
        ("attempt", {"attempt": 2, "reason": EVIL}),
    ],
)
def test_what_a_task_says_cannot_control_the_terminal(event_type: str, data: Any, capsys: pytest.CaptureFixture[str]):
    with Screen() as screen:
        screen.show(Received(event_type, json.dumps(data), "1-0"))
    out, errors = capsys.readouterr()
    assert out == ""
    assert "a\\x1b]0;mine\\x07\\x9b31m\\u202eb" in errors
    assert not set(errors) & {"\x1b", "\x07", "\x9b", "\u202e"}


@pytest.mark.parametrize(
    ("event_type", "data", "code"), [("error", {"error": EVIL, "code": "c"}, 1), ("complete", {"result": EVIL}, 0)]
)
def test_neither_can_its_outcome(event_type: str, data: Any, code: int, capsys: pytest.CaptureFixture[str]):
    assert outcome(Received(event_type, json.dumps(data), "1-0")) == code
    told = "".join(capsys.readouterr())
    assert "31m" in told
    assert not set(told) & {"\x1b", "\x07", "\x9b", "\u202e"}
