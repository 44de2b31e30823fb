"""What lists have in common: how many, from where, and the form of a JSON answer."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from server.web.problems import Problem, shown

#: Two screens of a list; a larger page would hold Redis up with whole records, inputs included.
USUAL_PAGE: Final = 50
LARGEST_PAGE: Final = 100
#: `<ms since epoch>-<task id>`, as `TaskStore.list` and `DeadLetters.list` make it.
LIST_CURSOR: Final = re.compile(r"[0-9]{1,15}-[A-Za-z0-9._-]{1,128}")


def limit_of(text: str | None) -> int:
    """The number of items asked for. Raises `Problem`."""
    if not text:
        return USUAL_PAGE
    if re.fullmatch(r"[1-9][0-9]{0,2}", text) and int(text) <= LARGEST_PAGE:
        return int(text)
    raise Problem(400, f"'limit' is {shown(text)}. Use a number from 1 to {LARGEST_PAGE}.")


def cursor_of(text: str | None) -> str | None:
    """Where the page asked for begins. Raises `Problem`."""
    if not text or LIST_CURSOR.fullmatch(text):
        return text or None
    raise Problem(400, f"'cursor' is {shown(text)}. Use the 'next' of the page before, exactly as it was received.")


def json_response(content: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that nobody keeps."""
    return JSONResponse(content, status, {"cache-control": "no-store", **(headers or {})})
