"""The lines of an input as events: the same wherever the input is cut, and told by their numbers."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.lines import Form, Line, Lines, batches


def lines_of(chunks: list[bytes], form: Form) -> list[Line]:
    lines = Lines(form)
    return [line for chunk in chunks for line in lines.feed(chunk)] + list(lines.end())


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"))), st.booleans(), st.data())
def test_where_the_input_is_cut_changes_nothing(texts: list[str], is_ended: bool, data: st.DataObject):
    if texts and not is_ended:
        texts[-1] += "."  # an empty rest is no line
    whole = "\n".join(texts).encode() + (b"\n" if texts and is_ended else b"")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    found = lines_of(chunks, Form())
    assert [json.loads(line.body)["data"] for line in found] == texts
    assert [line.number for line in found] == list(range(1, len(texts) + 1))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Form(), {"data": "a"}),
        (Form(type="t", key="k"), {"type": "t", "data": "a", "key": "k"}),
        (Form(type="t", is_appended=True), {"type": "t", "append": "a\n"}),
    ],
)
def test_a_line_becomes_an_event_of_the_form_that_was_asked_for(form: Form, expected: dict[str, str]):
    (line,) = lines_of([b"a\r\n"], form)
    assert json.loads(line.body) == expected


def test_a_line_of_json_goes_as_it_is_and_empty_ones_are_counted_only():
    found = lines_of([b'{"data": 1.0e2}\n\n  \r\n{"data":\t2}'], Form(is_json=True))
    assert found == [Line(1, b'{"data": 1.0e2}'), Line(4, b'{"data":\t2}')]


def test_an_input_without_line_ends_is_given_up_before_it_fills_the_memory():
    lines = Lines(Form())
    chunk = b"x" * (1 << 20)
    fed = 0
    found: list[Line] = []
    while not found:
        found, fed = list(lines.feed(chunk)), fed + 1
        assert fed < 20
    assert found[0].number == 1
    assert "is longer than 16777216 bytes" in found[0].fault


@given(st.lists(st.integers(0, 30)), st.integers(1, 5), st.integers(1, 50))
def test_batches_fit_and_leave_nothing_out(sizes: list[int], most_lines: int, most_bytes: int):
    lines = [Line(number, b"x" * size) for number, size in enumerate(sizes)]

    def each() -> Iterator[Line]:
        yield from lines

    found = list(batches(each(), most_lines=most_lines, most_bytes=most_bytes))
    assert [line for batch in found for line in batch] == lines
    for batch in found:
        body = b"\n".join(line.body for line in batch)
        assert len(batch) == 1 or (len(batch) <= most_lines and len(body) <= most_bytes)
