"""docs/api.md lists every code with which an attempt can end a task."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def codes_of_failures() -> Iterator[str]:
    for path in (_ROOT / "workers").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Failure":
                code = node.args[1]
                assert isinstance(code, ast.Constant), f"{path}:{node.lineno} makes its code up."
                yield str(code.value)


def test_every_code_of_a_failed_task_is_documented():
    text = (_ROOT / "docs" / "api.md").read_text()
    table = text.partition("The `code` of the terminal `error` is one of:")[2].partition("\n#")[0]
    documented = {
        code for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for code in re.findall(r"`(\w+)`", cell)
    }
    found = set(codes_of_failures())
    assert {"task_failed", "not_stored"} <= found
    assert found <= documented
