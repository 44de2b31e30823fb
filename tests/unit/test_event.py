"""Drafts and entries: what may be written, and that everything in a log can be read."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.streams import event
from server.streams.errors import InvalidInput, TooLarge
from server.streams.event import (
    RESERVED_TYPES,
    Draft,
    Event,
    check_type,
    decode_entries,
    decode_entry,
    draft,
    encode_json,
    normal_text,
)
from server.streams.ids import EventId

types = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def has_lone_surrogate(value: object) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False))


@given(types.filter(lambda name: name not in RESERVED_TYPES), json_values.filter(lambda v: not has_lone_surrogate(v)))
def test_data_survives_its_encoding(event_type: str, value: object):
    found = draft(event_type, value, max_bytes=1 << 20)
    assert (found.type, json.loads(found.data)) == (event_type, value)
    assert "\n" not in found.data
    assert "\r" not in found.data


@pytest.mark.parametrize("event_type", sorted(RESERVED_TYPES))
def test_types_of_reprise_itself_are_refused_from_others(event_type: str):
    with pytest.raises(InvalidInput, match="Reprise's own"):
        draft(event_type, {}, max_bytes=100)


@pytest.mark.parametrize("event_type", ["", "a b", "a\n", "a\nid: 9-9", "é", "a" * 129, "a/b", "\0", "a\r"])
def test_a_type_that_could_break_a_frame_is_refused(event_type: str):
    with pytest.raises(InvalidInput, match="not an event type"):
        check_type(event_type)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"x", object(), {"a": "\ud800"}, {(1, 2): 3}])
def test_data_that_json_cannot_hold_is_refused_by_name(value: object):
    with pytest.raises(InvalidInput, match="The result"):
        encode_json(value, what="The result")


def test_data_that_contains_itself_is_refused_as_a_circle():
    looped: list[object] = []
    looped.append(looped)
    with pytest.raises(InvalidInput, match="Circular reference"):
        encode_json(looped, what="The result")


def test_a_refused_value_leaves_nothing_behind_that_would_refuse_the_next():
    value: dict[str, object] = {"a": {1, 2}}
    with pytest.raises(InvalidInput):
        encode_json(value, what="The result")
    value["a"] = value["b"] = [1]
    assert encode_json(value, what="The result") == '{"a":[1],"b":[1]}'


@given(json_values.filter(lambda value: not has_lone_surrogate(value)))
def test_the_encoder_kept_writes_what_the_library_writes(value: object):
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    assert encode_json(value, what="The result") == expected


def test_without_the_librarys_c_encoder_events_are_encoded_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(event, "_C_ENCODER", None)
    assert draft("t", {"a": ["é", None, 1.5]}, max_bytes=100).data == '{"a":["é",null,1.5]}'


def test_the_limit_counts_bytes_of_utf_8_and_not_characters():
    assert draft("t", "é" * 49, max_bytes=100).data == '"' + "é" * 49 + '"'
    with pytest.raises(TooLarge, match="102 bytes; the limit is 100"):
        draft("t", "é" * 50, max_bytes=100)


@given(st.text(alphabet="ab\r\n", max_size=20))
def test_every_line_end_becomes_one_line_feed(text: str):
    assert normal_text(text) == "\n".join(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    assert normal_text(normal_text(text)) == normal_text(text)


def test_an_entry_of_the_scripts_is_decoded_with_all_its_fields():
    fields = [b"e", b"tick", b"d", b'{"n":1}', b"t", b"1795343970123", b"r", b"0123abcd", b"p", b"6-8", b"lost", b"6-9"]
    assert decode_entry(b"7-0", fields) == Event(
        EventId(7, 0), "tick", '{"n":1}', 1795343970123, EventId(6, 8), EventId(6, 9), is_terminal=False
    )
    assert decode_entry(b"7-1", [b"e", b"complete", b"d", b"{}", b"t", b"1", b"z", b"1"]).is_terminal


def test_an_entry_of_a_foreign_writer_without_any_field_of_ours_is_an_empty_message():
    assert decode_entry(b"7-3", [b"name", b"value"]) == Event(EventId(7, 3), "message", "")


@pytest.mark.parametrize("event_type", [b"", b"a b", b"a\nid: 1-1", b"\xff\xfe", b"x" * 129, "é".encode()])
def test_a_foreign_type_that_could_break_a_frame_is_delivered_as_message(event_type: bytes):
    assert decode_entry(b"7-3", [b"e", event_type, b"d", b"x"]).type == "message"


def test_foreign_line_ends_and_bytes_are_mended():
    assert decode_entry(b"7-3", [b"d", b"a\r\nb\rc\n\xff"]).data == "a\nb\nc\n\ufffd"


@pytest.mark.parametrize("stamp", [b"", b"-1", b"1.5", b"soon", "١".encode(), b" 1", b"1_0", b"9" * 5000])
def test_a_foreign_time_that_is_none_is_left_out(stamp: bytes):
    assert decode_entry(b"7-3", [b"t", stamp]).at_ms is None


@pytest.mark.parametrize("known", [b"", b"x", b"1", b"-", b"1-", b"1_0-0", b" 1-0", b"1--5", b"\xff-1", b"9" * 5000])
def test_a_foreign_predecessor_that_is_no_id_is_left_out(known: bytes):
    found = decode_entry(b"7-0", [b"p", known, b"lost", known])
    assert (found.previous, found.lost) == (None, None)


@given(st.lists(st.tuples(st.sampled_from([b"e", b"d", b"t", b"p", b"lost", b"z", b"r"]), st.binary(max_size=40))))
def test_no_entry_of_a_log_is_refused(pairs: list[tuple[bytes, bytes]]):
    found = decode_entry(b"7-3", [part for pair in pairs for part in pair])
    assert check_type(found.type) == found.type
    assert "\r" not in found.data
    found.data.encode()


def test_a_page_of_entries_is_decoded_in_order():
    rows = [(b"7-0", [b"e", b"a", b"d", b"1"]), (b"7-1", [b"e", b"b", b"d", b"2"])]
    assert [(str(event.id), event.type, event.data) for event in decode_entries(rows)] == [
        ("7-0", "a", "1"),
        ("7-1", "b", "2"),
    ]


def test_a_draft_is_a_value():
    assert Draft("a", "1") == Draft("a", "1")
