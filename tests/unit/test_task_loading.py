"""Loading task modules: what is found in them, and the sentence for each that cannot be loaded."""

import sys
from pathlib import Path

import pytest

from server.streams.settings import CannotStart
from workers.loading import load_tasks

TASK = 'from workers import Context, task\n@task("{name}")\nasync def run(ctx: Context) -> None: ...\n'


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name, text in {
        "tasks_good": TASK.format(name="good"),
        "tasks_again": "from tasks_good import run\n" + TASK.format(name="other").replace("def run", "def run_other"),
        "tasks_rival": TASK.format(name="good"),
        "tasks_none": "x = 1\n",
        "tasks_broken": "raise RuntimeError('no')\n",
        "tasks_leaving": "raise SystemExit(0)\n",
        "tasks_needy": "import not_there_at_all\n",
        "tasks_wrong": 'from workers import task\n@task("wrong")\nasync def run() -> None: ...\n',
    }.items():
        (tmp_path / f"{name}.py").write_text(text)


def test_the_tasks_of_every_module_are_offered() -> None:
    assert sorted(load_tasks(["tasks_good", "workers.examples"])) == [
        "chat",
        "countdown",
        "flaky",
        "good",
        "process",
        "thinking",
    ]


def test_a_task_that_a_module_imports_is_offered_once() -> None:
    assert sorted(load_tasks(["tasks_good", "tasks_again"])) == ["good", "other"]


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        (["tasks_nowhere"], "There is no module 'tasks_nowhere'"),
        (["nowhere.tasks"], "There is no module 'nowhere.tasks'"),
        (["tasks_needy"], "imports 'not_there_at_all', which is not installed"),
        (["tasks_none"], "holds no task functions"),
        (["tasks_broken"], "raised RuntimeError: no"),
        (["tasks_leaving"], r"called sys.exit\(0\)"),
        (["tasks_wrong"], "Make its first parameter `ctx: Context`"),
        (["tasks_good", "tasks_rival"], "'good' is offered twice"),
    ],
)
def test_a_module_that_cannot_be_used_stops_the_start_with_a_sentence(modules: list[str], sentence: str) -> None:
    with pytest.raises(CannotStart, match=sentence) as refused:
        load_tasks(modules)
    assert refused.value.exit_code == 2
