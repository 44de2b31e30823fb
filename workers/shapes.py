"""The shapes of the events that have methods of their own: the same from a task and from any other program. Pure.

Each raises `InvalidInput` for what its readers could not show.
"""

from __future__ import annotations

from typing import Any

from server.streams.errors import InvalidInput
from server.streams.event import check_text


def token(text: str) -> dict[str, Any]:
    return {"text": check_text(text, what="The text of a token")}


def thought(text: str) -> dict[str, Any]:
    return {"text": check_text(text, what="The text of a thought")}


def log(message: str) -> dict[str, Any]:
    return {"message": check_text(message, what="The message of a log event")}


def progress(step: int, total_steps: int, message: str) -> dict[str, Any]:
    if not (_is_whole(step) and _is_whole(total_steps) and 0 <= step <= total_steps and total_steps >= 1):
        raise InvalidInput(
            f"Progress cannot be step {step!r} of {total_steps!r}. Use whole numbers with 0 <= step <= total_steps."
        )
    return {
        "step": step,
        "total_steps": total_steps,
        "message": check_text(message, what="The message of progress"),
        "percentage": 100 * step // total_steps,
    }


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
