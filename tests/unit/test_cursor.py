"""Composite cursors: a position in every stream of a response."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.streams.cursor import format_composite, parse_composite
from server.streams.errors import InvalidCursor
from server.streams.ids import MAX_HALF, ORIGIN, EventId

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
event_ids = st.builds(EventId, st.integers(0, MAX_HALF), st.integers(0, MAX_HALF))
STREAMS = ("chat.42", "system")


@given(st.dictionaries(names, event_ids, min_size=1, max_size=32), st.data())
def test_a_composite_id_leads_back_to_every_position_with_its_own_stream_first(
    positions: dict[str, EventId], data: st.DataObject
):
    own = data.draw(st.sampled_from(sorted(positions)))
    text = format_composite(own, positions)
    assert parse_composite(text, tuple(positions)) == positions
    assert text.startswith(f"{own}:{positions[own]}")


def test_a_composite_id_has_the_documented_form():
    positions = {"system": ORIGIN, "chat.42": EventId(1795343970123, 57)}
    assert format_composite("chat.42", positions) == "chat.42:1795343970123-57,system:0-0"


def test_a_cursor_may_name_some_of_the_streams_only():
    assert parse_composite("system:3-1", STREAMS) == {"system": EventId(3, 1)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no stream"),
        ("3-1", "names no stream"),
        (":3-1", "names no stream"),
        ("other:3-1", "names no stream"),
        ("system:3-1,", "names no stream"),
        (",system:3-1", "names no stream"),
        (" system:3-1", "names no stream"),
        ("system:3-1,system:3-2", "twice"),
        ("system:", "not an event id"),
        ("system:x", "not an event id"),
        ("system:01-1", "not an event id"),
        ("system:3-1 ", "not an event id"),
        ("system:chat.42:3-1", "names no stream"),
    ],
)
def test_a_part_that_does_not_parse_or_belong_is_refused_with_its_reason(text: str, reason: str):
    with pytest.raises(InvalidCursor, match=reason):
        parse_composite(text, STREAMS)


@given(st.text(max_size=60) | st.lists(st.sampled_from(["system", "chat.42", ":", "3-1", ",", "x"])).map("".join))
def test_no_text_raises_anything_else(text: str):
    with suppress(InvalidCursor):
        assert set(parse_composite(text, STREAMS)) <= set(STREAMS)
