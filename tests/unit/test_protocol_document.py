"""docs/protocol.md names modules, scripts and tests: each must exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]


@cache
def document() -> str:
    return (_ROOT / "docs" / "protocol.md").read_text()


@cache
def names_of_tests() -> frozenset[str]:
    sources = [path.read_text() for path in (_ROOT / "tests").rglob("test_*.py")]
    return frozenset(
        name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)", source, re.MULTILINE)
    )


def test_every_test_it_names_exists():
    named = set(re.findall(r"`(test_\w+)`", document()))
    assert named
    assert named - names_of_tests() == set()


def test_every_module_script_and_test_file_it_names_exists():
    modules = {f"{name.replace('.', '/')}.py" for name in re.findall(r"`((?:server|workers)\.[a-z_.]+)`", document())}
    scripts = {f"server/streams/{name}" for name in re.findall(r"`(scripts/\w+\.lua)`", document())}
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", document()))
    assert modules
    assert scripts
    assert files
    assert [path for path in sorted(modules | scripts | files) if not (_ROOT / path).exists()] == []
