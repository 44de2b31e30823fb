"""Event ids: what parses, in which order they stand, and what arithmetic on them proves."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.streams.errors import InvalidCursor
from server.streams.ids import MAX_HALF, ORIGIN, EventId, decode_event_id, parse_event_id

halves = st.integers(0, MAX_HALF) | st.integers(0, 3)
event_ids = st.builds(EventId, halves, halves)


@given(event_ids)
def test_parsing_what_was_formatted_gives_the_same_id(event_id: EventId):
    assert parse_event_id(str(event_id)) == event_id
    assert decode_event_id(str(event_id).encode()) == event_id


@given(event_ids, event_ids)
def test_ids_stand_in_the_order_of_their_pairs(one: EventId, other: EventId):
    assert (one < other) == ((one.generation, one.sequence) < (other.generation, other.sequence))


def test_order_is_not_that_of_the_text():
    assert parse_event_id("9-10") > parse_event_id("9-9")
    assert parse_event_id("10-0") > parse_event_id("9-9")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1--1",
        "-1-1",
        "+1-1",
        "1-+1",
        "1_0-0",
        "0-1_0",
        "01-0",
        "0-01",
        "00-0",
        "1-1-1",
        "1.0-0",
        "0x1-0",
        "1e3-0",
        " 1-0",
        "1-0 ",
        "1 -0",
        "1-\t0",
        "1-0\n",
        "\n1-0",
        "1-0\0",
        "١-0",  # ARABIC-INDIC DIGIT ONE, which int() takes
        "１-0",  # FULLWIDTH DIGIT ONE
        "1−0",  # MINUS SIGN
        "1-0,2-0",
        "chat:1-0",
        "*",
        "$",
        "+",
        "1-*",
        f"{MAX_HALF + 1}-0",
        f"0-{MAX_HALF + 1}",
        f"{2**64}-0",
        "99999999999999999999-0",
        "9" * 5000 + "-0",
    ],
)
def test_what_redis_would_not_write_as_an_id_is_refused_with_the_way_out(text: str):
    with pytest.raises(InvalidCursor, match="exactly as it was received"):
        parse_event_id(text)


@given(st.text(alphabet="0123456789-_+ \n٣.", max_size=24))
@example("0-0")
def test_whatever_parses_formats_to_the_same_text(text: str):
    try:
        found = parse_event_id(text)
    except InvalidCursor:
        return
    assert str(found) == text


def test_the_error_of_an_absurdly_long_cursor_is_short():
    with pytest.raises(InvalidCursor) as caught:
        parse_event_id("1" * 100_000)
    assert len(str(caught.value)) < 300


@given(event_ids.filter(lambda found: found.sequence < MAX_HALF))
def test_the_next_id_continues_its_predecessor_and_nothing_lies_between(event_id: EventId):
    assert event_id.next().continues(event_id)
    assert event_id.next() > event_id


@given(event_ids, event_ids)
def test_only_the_id_right_before_is_continued(event: EventId, cursor: EventId):
    if event.continues(cursor) and event != ORIGIN:
        assert cursor < event
        assert cursor.generation == event.generation or cursor.sequence == MAX_HALF


def test_a_cursor_before_the_first_event_of_a_generation_lies_below_it_and_above_all_real_ones():
    before = EventId(7, 0).before()
    assert EventId(6, MAX_HALF - 1) < before < EventId(7, 0)
    assert EventId(7, 0).continues(before)
    assert parse_event_id(str(before)) == before


def test_nothing_lies_before_the_origin():
    assert ORIGIN.before() == ORIGIN
