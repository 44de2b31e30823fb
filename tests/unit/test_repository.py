"""What the repository promises about itself: locks that work anywhere, a worker that stays light."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements/runtime.txt", "requirements/dev.txt", "requirements/build.txt", "requirements/bench.txt")
WEB = ("starlette", "uvicorn", "sse_starlette")


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_neither_an_index_nor_a_path_of_some_machine(lock: str):
    lines = (ROOT / lock).read_text().splitlines()
    assert [line for line in lines if "://" in line or line.startswith(("-i", "--index", "--find", "/"))] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_the_hashes_of_its_files(lock: str):
    blocks = re.split(r"^(?=[a-z0-9-]+==)", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_what_runs_in_production_is_what_was_tested():
    runtime, dev = pins(LOCKS[0]), pins(LOCKS[1])
    assert {name: dev.get(name) for name in runtime} == runtime


def test_every_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=;~! ]", line)[0] for line in project["dependencies"]}
    assert names <= pins(LOCKS[0]).keys()


@pytest.mark.parametrize("package", ["server", "workers", "server.streams"])
def test_importing_what_a_worker_needs_loads_no_web_framework(package: str):
    code = f"import sys, {package}; print([name for name in {WEB!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
