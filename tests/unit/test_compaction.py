"""Compaction: the same state from fewer events, from wherever a reader goes on; decoded by what we did not write."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from httpx_sse import ServerSentEvent
from hypothesis import given
from hypothesis import strategies as st

from server.fanout.compaction import Compaction, key_of
from server.streams.event import Event
from server.streams.ids import EventId
from server.streams.marks import Mark
from tests.support.compacted import View, sent
from tests.support.frames import decode

Entry = tuple[Event, Mark | None]


def written(text: str, is_wide: bool, has_escapes: bool) -> str:
    """A piece as writers in several languages put it."""
    separators = (" , ", " : ") if is_wide else (",", ":")
    is_whole = not any(0xD800 <= ord(each) < 0xE000 for each in text)
    return json.dumps({"text": text}, ensure_ascii=has_escapes or not is_whole, separators=separators)


#: Half pairs, escapes, quotes: what JSON can hold, as writers in other languages put it.
TEXTS = st.lists(st.sampled_from([*'a"\\\n\u2028é😀', "\ud83d", "\ude00"]), max_size=6).map("".join)
WRITTEN = st.builds(written, TEXTS, st.booleans(), st.booleans())
ODD = st.sampled_from(
    ["", "null", "text", '{"text":1}', '{"text":"a","n":1}', '{"text":"a"', '{"text":"\\x"}', '["text"]']
)
MARKS = st.sampled_from([None, None, Mark("k", "1"), Mark("k", "2"), Mark("a", "text"), Mark("a", "other")])
TYPES = st.sampled_from(["token", "token", "token", "note", "checkpoint", "attempt"])
FORMED = st.tuples(TYPES, WRITTEN | ODD, MARKS)


def entries_of(formed: Sequence[tuple[str, str, Mark | None]], *, first: int = 0) -> list[Entry]:
    """The events of one generation, of which the third begins a new one."""
    ids = [EventId(7, first + place) if place < 3 else EventId(8, place - 3) for place in range(len(formed))]
    return [(Event(own, each[0], each[1]), each[2]) for own, each in zip(ids, formed, strict=True)]


def compacted(entries: Sequence[Entry]) -> list[ServerSentEvent]:
    latest = {key: event.id for event, mark in entries if (key := key_of(event, mark)) is not None}
    compaction = Compaction(latest)
    for event, mark in entries:
        compaction.add(event, mark)
    return decode(*compaction.frames())


def marks_of(entries: Sequence[Entry]) -> dict[str, Mark]:
    """As far as they say anything: of Reprise's own events they do not."""
    own = {"checkpoint", "attempt"}
    return {str(event.id): mark for event, mark in entries if mark is not None and event.type not in own}


@given(st.lists(FORMED, max_size=12), st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_a_reader_comes_to_the_same_state_from_wherever_it_is_cut_off_and_goes_on(
    formed: list[tuple[str, str, Mark | None]], joins_at: int, kept: int, is_compact_again: bool
):
    entries = entries_of(formed)
    events, marks = [event for event, _ in entries], marks_of(entries)
    behind = View().take(sent(events[:joins_at]), marks)
    whole = View().take(sent(events), marks)
    first = compacted(entries[joins_at:])
    assert View().take(sent(events[:joins_at]), marks).take(first, marks) == whole
    had = first[:kept]
    reached = next((place + 1 for place in range(len(events)) if had and str(events[place].id) == had[-1].id), joins_at)
    rest = compacted(entries[reached:]) if is_compact_again else sent(events[reached:])
    assert behind.take(had, marks).take(rest, marks) == whole


@given(st.lists(FORMED, max_size=12))
def test_every_id_is_one_of_the_log_in_its_order_and_the_last_is_reached(formed: list[tuple[str, str, Mark | None]]):
    entries = entries_of(formed)
    ids = [str(event.id) for event, _ in entries]
    found = [event.id for event in compacted(entries)]
    assert found == [each for each in ids if each in found]
    assert found[-1:] == ids[-1:]


@given(st.lists(st.tuples(st.just("token"), WRITTEN, st.just(None)), min_size=1, max_size=12))
def test_consecutive_tokens_become_one_event_with_the_id_of_the_last(formed: list[tuple[str, str, None]]):
    entries = entries_of(formed)
    [event] = compacted(entries)
    assert event.id == str(entries[-1][0].id)
    joined = json.loads(event.data)["text"].encode("utf-16", "surrogatepass")
    assert joined == "".join(json.loads(data)["text"] for _, data, _ in formed).encode("utf-16", "surrogatepass")


@pytest.mark.parametrize(
    ("between", "mark"),
    [
        (("note", '{"text":"b"}'), None),
        (("note", '{"text":"b"}'), Mark("a", "text")),
        (("token", '{"text":"b"}'), Mark("a", "other")),
        (("token", '{"text":"b"}'), Mark("k", "1")),
        (("token", '{"text":1}'), None),
        (("token", '{"text":"b","by":"me"}'), None),
        (("checkpoint", '{"text":"b"}'), Mark("a", "text")),
        (("attempt", "{}"), None),
    ],
)
def test_what_is_no_piece_of_the_text_ends_it(between: tuple[str, str], mark: Mark | None):
    entries = entries_of([("token", '{"text":"a"}', None), (*between, mark), ("token", '{"text":"c"}', None)])
    assert [event.data for event in compacted(entries)] == ['{"text":"a"}', between[1], '{"text":"c"}']


def test_the_end_of_a_stream_is_never_joined_or_left_out():
    end = Event(EventId(7, 2), "token", '{"text":"b"}', is_terminal=True)
    for mark in (None, Mark("a", "text"), Mark("k", "1")):
        entries: list[Entry] = [*entries_of([("token", '{"text":"a"}', mark)]), (end, mark)]
        assert [event.data for event in compacted(entries)] == ['{"text":"a"}', '{"text":"b"}']
    compaction = Compaction({"1": EventId(9, 0)})
    compaction.add(end, Mark("k", "1"))
    assert len(compaction.frames()) == 1


def test_a_text_of_another_member_is_joined_under_its_name():
    mark = Mark("a", "body")
    entries = entries_of([("html", '{"body":"<p>"}', mark), ("html", '{ "body": "</p>" }', mark)])
    assert [(event.id, event.data) for event in compacted(entries)] == [("7-1", '{"body":"<p></p>"}')]


def test_a_long_text_comes_in_pieces_of_which_none_is_longer_than_a_write():
    piece = json.dumps({"text": "x" * 20_000})
    found = compacted(entries_of([("token", piece, None)] * 10))
    assert [len(json.loads(event.data)["text"]) for event in found] == [60_000, 60_000, 60_000, 20_000]
    [alone] = compacted(entries_of([("token", json.dumps({"text": "x" * 100_000}), None)]))
    assert len(json.loads(alone.data)["text"]) == 100_000


def test_what_is_left_out_for_a_later_event_of_its_key_is_only_what_is_known_to_be_followed():
    entries = entries_of([("t", "1", Mark("k", "a")), ("t", "2", Mark("k", "b")), ("t", "3", Mark("k", "a"))])
    assert [event.data for event in compacted(entries)] == ["2", "3"]
    compaction = Compaction({})
    for event, mark in entries:
        compaction.add(event, mark)
    assert [event.data for event in decode(*compaction.frames())] == ["1", "2", "3"]
