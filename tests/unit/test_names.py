"""Stream names and task ids: the alphabet, the length, and which are Reprise's own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.streams.errors import InvalidInput
from server.streams.names import (
    is_reserved,
    parse_stream_name,
    parse_task_id,
    starts_at_end,
    task_of_stream,
    task_stream,
)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,121}", fullmatch=True)


@given(names)
def test_a_name_of_the_alphabet_is_taken_as_it_is(name: str):
    assert parse_stream_name(name) == name


@given(names)
def test_the_stream_of_a_task_leads_back_to_its_id(task_id: str):
    assert parse_task_id(task_id) == task_id
    assert task_of_stream(parse_stream_name(task_stream(task_id))) == task_id


@given(st.text(max_size=140))
def test_any_other_text_is_refused(text: str):
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", text):
        with pytest.raises(InvalidInput, match="not a stream name"):
            parse_stream_name(text)


@pytest.mark.parametrize(
    "text", ["", "a" * 129, ".a", "-a", "_a", "a b", "a/b", "a{b}", "a:b", "a\n", "a\0", "é", "a,b", "１"]
)
def test_a_name_that_could_break_a_key_an_id_or_a_line_is_refused(text: str):
    with pytest.raises(InvalidInput):
        parse_stream_name(text)


@pytest.mark.parametrize("text", ["", "a" * 123, "a/b", "a\n", "a{", "x" * 10_000])
def test_a_task_id_whose_stream_would_have_no_name_is_refused_briefly(text: str):
    with pytest.raises(InvalidInput) as caught:
        parse_task_id(text)
    assert len(str(caught.value)) < 300


def test_streams_of_reprise_itself_are_reserved():
    assert [name for name in ("system", "tasks", "tasks.1", "chat", "tasksx", "systems") if is_reserved(name)] == [
        "system",
        "tasks",
        "tasks.1",
    ]


def test_only_news_of_the_whole_system_start_at_their_end():
    assert [name for name in ("system", "tasks", "tasks.1", "chat") if starts_at_end(name)] == ["system", "tasks"]


def test_a_stream_that_is_no_tasks_has_no_task():
    assert [task_of_stream(name) for name in ("system", "tasks", "chat")] == [None, None, None]
