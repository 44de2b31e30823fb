"""The checker of chaos runs shares no code with what it checks."""

from __future__ import annotations

import subprocess
import sys

from tests.e2e.product import ROOT

_JUDGES = ("tests.chaos.checker", "tests.chaos.reader", "tests.chaos.plan")


def test_the_checker_loads_nothing_of_the_product():
    code = f"import sys, {', '.join(_JUDGES)}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name for name in found.stdout.split() if name.partition(".")[0] in {"server", "workers", "redis"}} == set()
