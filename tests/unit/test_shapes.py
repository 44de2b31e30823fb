"""Events with methods of their own take what their readers can show, and refuse the rest with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.streams.errors import InvalidInput
from server.streams.event import draft
from workers import shapes


@pytest.mark.parametrize("shape", [shapes.token, shapes.thought, shapes.log])
@pytest.mark.parametrize("text", [5, None, {"a": 1}, b"x", ["x"]])
def test_text_is_text(shape: Callable[[Any], dict[str, Any]], text: object) -> None:
    with pytest.raises(InvalidInput, match=r"which is no text\. Use str\(\)"):
        shape(text)


@pytest.mark.parametrize(
    ("step", "total"), [(-1, 3), (4, 3), (0, 0), ("a", 3), (1, "3"), (1.5, 3), (True, 3), (None, 1)]
)
def test_a_step_is_one_of_its_total(step: Any, total: Any) -> None:
    with pytest.raises(InvalidInput, match=r"Use whole numbers with 0 <= step <= total_steps"):
        shapes.progress(step, total, "")


def test_progress_tells_its_percentage() -> None:
    assert shapes.progress(1, 3, "x") == {"step": 1, "total_steps": 3, "message": "x", "percentage": 33}


@pytest.mark.parametrize("event_type", [5, None, b"x", ["x"], {"a": 1}, ""])
def test_a_type_is_text_of_its_alphabet(event_type: Any) -> None:
    with pytest.raises(InvalidInput, match="is not an event type"):
        draft(event_type, None, max_bytes=100)
