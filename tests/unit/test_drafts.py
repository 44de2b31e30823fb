"""Bodies of a publish: whatever their form, the same events; whatever is wrong, the right place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.streams.event import Draft, encode_json, normal_text
from server.streams.marks import Marked
from server.web.open_streams.drafts import drafts_in
from server.web.problems import Problem

MAX_BYTES = 1000

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
types = st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True).map(lambda name: f"my.{name}")
keys = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=20)


def shaped(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with these members, and some of those."""
    return st.fixed_dictionaries(required, optional=optional)


events: st.SearchStrategy[dict[str, Any]] = st.one_of(
    shaped({"data": values}, type=types, key=keys), shaped({"append": text}, type=types), shaped({"type": types})
)
bad_events = st.sampled_from([{}, {"type": "a b"}, {"append": 1}, {"data": "\0"}, {"data": 1, "key": ""}, 7, {"x": 1}])


def parsed(body: str, *, is_lines: bool = False) -> list[Draft]:
    return drafts_in(body.encode(), is_lines=is_lines, max_bytes=MAX_BYTES)


def expected(event: dict[str, Any]) -> tuple[str, str, str]:
    """Type, data and mark that an event has by the document."""
    event_type = event.get("type", "message")
    if "append" in event:
        return event_type, encode_json({"text": event["append"]}, what=""), "text"
    data = event.get("data")
    told = normal_text(data) if isinstance(data, str) else encode_json(data, what="")
    return event_type, told, event.get("key", "")


def found(draft: Draft) -> tuple[str, str, str]:
    return draft.type, draft.data, draft.mark.value if isinstance(draft, Marked) else ""


@given(st.lists(events, min_size=1, max_size=10))
def test_an_array_and_lines_are_the_same_events(batch: list[dict[str, Any]]) -> None:
    drafts = parsed(json.dumps(batch))
    assert list(map(found, drafts)) == list(map(expected, batch))
    assert parsed("\n".join(map(json.dumps, batch)), is_lines=True) == drafts
    assert parsed("\r\n\r\n".join(json.dumps(each, ensure_ascii=False) for each in batch), is_lines=True) == drafts
    assert parsed(json.dumps(batch[0])) == drafts[:1]


@given(st.lists(events, max_size=5), bad_events, st.lists(events, max_size=5))
def test_a_bad_event_is_named_by_its_number_wherever_it_stands(
    before: list[dict[str, Any]], bad: Any, after: list[dict[str, Any]]
) -> None:
    batch = [*before, bad, *after]
    for body, is_lines in ((json.dumps(batch), False), ("\n".join(map(json.dumps, batch)), True)):
        with pytest.raises(Problem) as refused:
            parsed(body, is_lines=is_lines)
        assert refused.value.status == 422
        assert {each.pointer.split("/")[1] for each in refused.value.errors} == {str(len(before))}


@given(st.lists(events, max_size=5), st.sampled_from(["{", "[1", "nul", '{"data":NaN}', '{"a":1,"a":2}', '"\\ud800"']))
def test_a_line_that_is_no_json_is_named_by_its_number(before: list[dict[str, Any]], bad: str) -> None:
    with pytest.raises(Problem) as refused:
        parsed("\n".join([*map(json.dumps, before), bad]), is_lines=True)
    assert refused.value.status == 400
    errors = [each.pointer.split("/")[1] for each in refused.value.errors]
    assert errors == [str(len(before))] or f"at line {len(before) + 1}," in refused.value.detail


@given(st.binary(max_size=200), st.booleans())
def test_whatever_is_sent_makes_events_or_a_problem(body: bytes, is_lines: bool) -> None:
    try:
        answer: list[Draft] | Problem = drafts_in(body, is_lines=is_lines, max_bytes=MAX_BYTES)
    except Problem as problem:
        answer = problem
    assert (answer.status in {400, 413, 422} and answer.detail) if isinstance(answer, Problem) else answer
