"""Names of streams and queues, and task ids: which are allowed, and which are Reprise's own. Pure."""

from __future__ import annotations

import re
from typing import Final

from server.streams.errors import InvalidInput

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
#: Part of the names of a queue's keys, and of every line that lists workers.
QUEUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TASK_PREFIX: Final = "tasks."

SYSTEM: Final = "system"
TASKS: Final = "tasks"


def parse_stream_name(text: str) -> str:
    """Return `text` if it may name a stream; raise `InvalidInput` otherwise."""
    if NAME.fullmatch(text):
        return text
    raise InvalidInput(
        f"{_shown(text)} is not a stream name. Use 1 to 128 of A-Z a-z 0-9 . _ - and start with a letter or a digit."
    )


def parse_task_id(text: str) -> str:
    """Return `text` if it may be a task id (its stream's name must be a name too); raise `InvalidInput` otherwise."""
    if NAME.fullmatch(_TASK_PREFIX + text) and text:
        return text
    raise InvalidInput(f"{_shown(text)} is not a task id. Use the id that the server gave when the task was created.")


def parse_queue_name(text: str) -> str:
    """Return `text` if it may name a queue; raise `InvalidInput` otherwise."""
    if QUEUE.fullmatch(text):
        return text
    raise InvalidInput(
        f"{_shown(text)} does not name a queue. Use 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or a digit."
    )


def task_stream(task_id: str) -> str:
    """The name of a task's stream."""
    return _TASK_PREFIX + task_id


def task_of_stream(stream: str) -> str | None:
    """The id of the task whose stream this is; None for any other stream."""
    return stream[len(_TASK_PREFIX) :] if stream.startswith(_TASK_PREFIX) else None


def is_reserved(stream: str) -> bool:
    """Whether only Reprise writes this stream."""
    return stream in {SYSTEM, TASKS} or stream.startswith(_TASK_PREFIX)


def starts_at_end(stream: str) -> bool:
    """Whether a reader without a cursor starts at the tail: news of the whole system, of which old ones say little."""
    return stream in {SYSTEM, TASKS}


def _shown(text: str) -> str:
    return repr(text if len(text) <= 64 else f"{text[:64]}…")
