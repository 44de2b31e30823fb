"""Loading task modules by name and collecting the task functions in them.

Invariant: two functions never offer the same type. Whatever stops a module from loading is said in a sentence.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import ClassVar

from server.streams.settings import CannotStart
from workers.definition import TaskDefinition, definition_of

_log = logging.getLogger(__name__)


class CannotLoad(CannotStart):
    """The person's: a task module that cannot be used. The message says why, and what to change."""

    exit_code: ClassVar[int] = 2


def load_tasks(modules: Iterable[str]) -> dict[str, TaskDefinition]:
    """The tasks of these modules by type. Raises `CannotLoad`, and `InvalidTask` for an unfit function."""
    found: dict[str, TaskDefinition] = {}
    for module in modules:
        for definition in _tasks_in(_import(module)):
            other = found.setdefault(definition.name, definition)
            if other is not definition:
                raise CannotLoad(
                    f"The task type {definition.name!r} is offered twice: {other.place}, and {definition.place}. "
                    "Give one of them another name."
                )
    return found


def _import(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # an installed command does not look into the current folder by itself
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise CannotLoad(
                f"There is no module {name!r} with tasks. Give --tasks a module as Python imports it, "
                "such as 'my_app.tasks', and run the worker where that import works."
            ) from None
        raise CannotLoad(f"The task module {name!r} imports {missing!r}, which is not installed here.") from error
    except CannotStart:
        raise
    except SystemExit as error:
        raise CannotLoad(
            f"The task module {name!r} called sys.exit({error.code!r}). What a script does when it is run belongs "
            'under `if __name__ == "__main__":`.'
        ) from None
    except Exception as error:
        _log.exception("The task module %r could not be loaded", name)
        raise CannotLoad(f"The task module {name!r} raised {type(error).__name__}: {error}") from error


def _tasks_in(module: ModuleType) -> list[TaskDefinition]:
    found = [definition for each in vars(module).values() if (definition := definition_of(each))]
    if not found:
        raise CannotLoad(
            f"The module {module.__name__!r} holds no task functions. "
            'Put @task("name") from workers on a function in it, or name another module with --tasks.'
        )
    return found
