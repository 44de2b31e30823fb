"""Log lines as machines and people get them, from our modules and from libraries."""

import json
import os
import subprocess
import sys

import pytest

SAID = """
import logging, warnings
from server.streams.diagnostics import configure_logging
configure_logging({format!r}, {level!r})
ours = logging.getLogger("server.somewhere")
ours.debug("hidden")
ours.info("serving on %s", "here", extra={{"stream": "a"}})
logging.getLogger("uvicorn.error").warning("theirs", extra={{"color_message": "twin"}})
logging.getLogger("uvicorn.error").info("chatter")
warnings.warn("careful", stacklevel=1)
try:
    raise ValueError("first\\nsecond")
except ValueError:
    ours.exception("broken")
"""


def said(format: str, *, level: str = "info", **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    code = SAID.format(format=format, level=level)
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | variables, check=True, capture_output=True, text=True
    )
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("format", ["json", "auto"])
def test_without_a_terminal_each_event_is_one_line_of_json(format: str):
    lines = [json.loads(line) for line in said(format).splitlines()]
    found = [(line["level"], line["logger"], line["message"].split(":")[0]) for line in lines]
    assert found == [
        ("info", "server.somewhere", "serving on here"),
        ("warning", "uvicorn.error", "theirs"),
        ("warning", "py.warnings", "<string>"),
        ("error", "server.somewhere", "broken"),
    ]
    assert lines[0]["stream"] == "a"
    assert "color_message" not in lines[1]
    assert lines[-1]["exception"].endswith("ValueError: first\nsecond")
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_people_get_lines_without_colours_unless_asked():
    plain = said("console")
    assert "serving on here" in plain
    assert "\x1b[" not in plain
    assert "\x1b[" in said("console", FORCE_COLOR="1")
    assert "\x1b[" not in said("console", FORCE_COLOR="1", NO_COLOR="1")


def test_less_important_lines_than_asked_for_are_not_shown():
    assert [json.loads(line)["level"] for line in said("json", level="error").splitlines()] == ["error"]
    assert "hidden" in said("json", level="debug")
