"""What pages of lists have in common: how many items, and from where."""

from __future__ import annotations

import re
from typing import Final

from server.web.problems import Problem, shown

#: Two screens of a list; a larger page would hold Redis up with whole records, inputs included.
USUAL_PAGE: Final = 50
LARGEST_PAGE: Final = 100
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,3}")
#: `<ms since epoch>-<task id>`, as `TaskStore.list` and `DeadLetters.list` make it.
LIST_CURSOR: Final = re.compile(r"[0-9]{1,15}-[A-Za-z0-9._-]{1,128}")


def limit_of(text: str | None, *, usual: int = USUAL_PAGE, most: int = LARGEST_PAGE) -> int:
    """The number of items asked for. Raises `Problem`."""
    if not text:
        return usual
    if _LIMIT.fullmatch(text) and int(text) <= most:
        return int(text)
    raise Problem(400, f"'limit' is {shown(text)}. Use a number from 1 to {most}.")


def cursor_of(text: str | None) -> str | None:
    """Where the page asked for begins. Raises `Problem`."""
    if not text or LIST_CURSOR.fullmatch(text):
        return text or None
    raise Problem(400, f"'cursor' is {shown(text)}. Use the 'next' of the page before, exactly as it was received.")
