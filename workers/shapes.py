"""The shapes of the events that have methods of their own: the same from a task and from any other program. Pure."""

from __future__ import annotations

from typing import Any


def token(text: str) -> dict[str, Any]:
    return {"text": text}


def thought(text: str) -> dict[str, Any]:
    return {"text": text}


def log(message: str) -> dict[str, Any]:
    return {"message": message}


def progress(step: int, total_steps: int, message: str) -> dict[str, Any]:
    """Raises `ValueError` for a step that is none of them."""
    if not 0 <= step <= total_steps or total_steps < 1:
        raise ValueError(f"Progress cannot be step {step!r} of {total_steps!r}. Use 0 <= step <= total_steps.")
    return {
        "step": step,
        "total_steps": total_steps,
        "message": message,
        "percentage": 100 * step // total_steps,
    }
