"""Frames for many: filtered by type, and with ids that name their streams; seen through a decoder we did not write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.fanout.framed import shown_types
from server.fanout.frames import event_frame
from server.fanout.window import Block
from server.streams.errors import InvalidInput
from server.streams.event import LOGGED_TYPES, Event
from server.streams.ids import EventId
from tests.support.frames import decode

types = st.sampled_from(["token", "progress", "event", "id", "data", *sorted(LOGGED_TYPES)])
datas = st.text(alphabet="a\n:event id", max_size=12)


def block_of(events: list[tuple[str, str]]) -> Block:
    frames = [event_frame(Event(EventId(7, place), *event)) for place, event in enumerate(events)]
    return Block(EventId(7, len(events)), frames=frames)


@given(st.lists(st.tuples(types, datas), max_size=8), st.sets(types, max_size=3), st.booleans())
def test_a_filter_shows_exactly_the_wanted_types_and_reprises_own(
    events: list[tuple[str, str]], wanted: set[str], ends: bool
):
    picked = block_of(events).picked(shown_types(wanted), ends=ends)
    passes = [each[0] in wanted | LOGGED_TYPES for each in events]
    if ends and passes:
        passes[-1] = True
    expected = [(f"7-{place}", *event) for place, event in enumerate(events) if passes[place]]
    assert [(each.id, each.event, each.data) for each in decode(picked.body)] == expected
    assert picked.is_to_the_end == (not passes or passes[-1])


@given(st.lists(st.tuples(types, datas), min_size=1, max_size=8))
def test_composite_ids_replace_the_plain_ones_and_nothing_else(events: list[tuple[str, str]]):
    block = block_of(events)
    found = decode(block.picked(None, ends=False).named(b"chat.42", b",system:0-0"))
    assert [each.id for each in found] == [f"chat.42:7-{place},system:0-0" for place in range(len(events))]
    plain = decode(block.body)
    assert [(each.event, each.data) for each in found] == [(each.event, each.data) for each in plain]


def test_what_is_made_of_a_block_is_made_once_for_all_who_want_the_same():
    block = block_of([("token", "a"), ("progress", "b"), ("token", "c")])
    one, other = shown_types(["token"]), shown_types(["token", "token"])
    assert block.picked(one, ends=False).body is block.picked(other, ends=False).body
    assert block.body is block.body
    assert block.picked(None, ends=False).frames is block.frames


def test_a_crowd_of_filters_keeps_only_a_few_copies_of_a_block():
    block = block_of([("token", "a")] * 3)
    for number in range(100):
        assert not block.picked(shown_types([f"t{number}"]), ends=False).frames
    assert block._picked is not None
    assert len(block._picked) == 8


@pytest.mark.parametrize("wrong", ["", "a b", "a\nb", "a\0b", "ü", "x" * 129, "a,b"])
def test_a_filter_by_what_no_event_can_have_is_refused(wrong: str):
    with pytest.raises(InvalidInput, match="is not an event type"):
        shown_types([wrong])
