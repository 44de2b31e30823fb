"""Rings: what the scripts send is understood, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.fanout.bell import parse_ring
from server.streams.event import Event, decode_entry
from server.streams.ids import EventId

types = st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True)
halves = st.integers(0, 10**19 - 1)
ids = st.builds(EventId, halves, halves)
batches = st.lists(
    st.tuples(types, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))), min_size=1, max_size=6
)


def ring(
    *events: tuple[str, str],
    first: str = "7-3",
    previous: str = "-",
    lost: str = "-",
    at_ms: int = 1795343970123,
    ends: bool = False,
) -> bytes:
    """What `ring` in _prelude.lua sends; the integration tests compare with the real one."""
    parts = [f"{first} {previous} {lost} {len(events)}\n".encode()]
    for place, (event_type, data) in enumerate(events):
        terminal = int(ends and place == len(events) - 1)
        parts.append(f"{event_type} {at_ms} {terminal} {len(data.encode())}\n".encode() + data.encode())
    return b"".join(parts)


def entries(
    *events: tuple[str, str], first: EventId, previous: EventId | None, lost: EventId | None, at_ms: int, ends: bool
) -> tuple[Event, ...]:
    """The same events as they are read from the log."""
    found: list[Event] = []
    for place, (event_type, data) in enumerate(events):
        fields = [b"e", event_type.encode(), b"d", data.encode(), b"t", b"%d" % at_ms]
        if place == 0:
            fields += [b"p", str(previous).encode()] if previous else []
            fields += [b"lost", str(lost).encode()] if lost else []
        if ends and place == len(events) - 1:
            fields += [b"z", b"1"]
        found.append(decode_entry(f"{first.generation}-{first.sequence + place}".encode(), fields))
    return tuple(found)


@given(
    st.lists(st.tuples(types, st.text(st.characters(exclude_categories=["Cs"]))), min_size=1, max_size=6),
    ids,
    st.none() | ids,
    st.none() | ids,
    st.integers(0, 10**15 - 1),
    st.booleans(),
)
def test_a_ring_brings_what_is_read_from_the_log_afterwards(
    events: list[tuple[str, str]],
    first: EventId,
    previous: EventId | None,
    lost: EventId | None,
    at_ms: int,
    ends: bool,
):
    payload = ring(
        *events, first=str(first), previous=str(previous or "-"), lost=str(lost or "-"), at_ms=at_ms, ends=ends
    )
    read = entries(*events, first=first, previous=previous, lost=lost, at_ms=at_ms, ends=ends)
    assert parse_ring(payload) == read


@given(batches)
def test_a_ring_brings_the_events_that_were_appended(events: list[tuple[str, str]]):
    found = parse_ring(ring(*events))
    assert found is not None
    assert [(event.type, event.data) for event in found] == events
    assert [event.id for event in found] == [EventId(7, 3 + place) for place in range(len(events))]


def test_a_ring_tells_predecessor_loss_and_end():
    found = parse_ring(ring(("a", "1"), ("b", "2"), first="7-0", previous="6-8", lost="6-9", ends=True))
    assert found == (
        Event(EventId(7, 0), "a", "1", 1795343970123, EventId(6, 8), EventId(6, 9)),
        Event(EventId(7, 1), "b", "2", 1795343970123, is_terminal=True),
    )


def test_a_ring_without_its_events_says_look_in_the_log():
    assert parse_ring(b"7-3 - - 1000\n") is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\n",
        b"x",
        b"hello world",
        b"7-3\n",
        b"7-3 - - 0\n",
        b"7-3 - - 0\nx",
        b"7-3 - - -1\na 1 0 1\nx",
        b"7-3 - - 1\na 1 0 1\n",  # fewer bytes than said
        b"7-3 - - 1\na 1 0 1\nxy",  # more
        b"7-3 - - 2\na 1 0 1\nx",  # fewer events
        b"7-3 - - 1\na 1 0 -8\nx",
        b"7-3 - - 99999999999999999999\na 1 0 -8\n",  # would read its own line for ever
        b"7-3 - - 1\na b 1 0 1\nx",
        b"7-3 - - 1\na 1 0 1_0\n0123456789",
        b"7_0-3 - - 1\na 1 0 1\nx",
        b"07-3 - - 1\na 1 0 1\nx",
        b"7-99999999999999999999 - - 1\na 1 0 1\nx",
        b"-7-3 - - 1\na 1 0 1\nx",
        b"7-3 - - 1 \na 1 0 1\nx",
        b"7-3 - - 1\na 1 2 1\nx",
        b"7-3 - - 1\na 01 0 1\nx",
        b"7-3 - - 1\na 1 0 01\nx",
        b"7-3 - - 01\na 1 0 1\nx",
        b"7-3 6 - 1\na 1 0 1\nx",
        b"7-3 - 6-x 1\na 1 0 1\nx",
        b"7-3 - - 1\n\xe9 1 0 1\nx",
        b"7-3 - - 1\na 1 0 1\n\xe9",
        b"7-3 - - 1\n" + b"a" * 129 + b" 1 0 1\nx",
        b"7-3 - - 1\na 1795343970123000 0 1\nx",
        "٧-3 - - 1\na 1 0 1\nx".encode(),
        b"9" * 5000 + b"-3 - - 1\na 1 0 1\nx",
    ],
)
def test_a_ring_that_is_not_quite_ours_says_look_in_the_log(payload: bytes):
    assert parse_ring(payload) is None


@given(st.binary(max_size=200))
def test_no_bytes_raise_or_bring_events(payload: bytes):
    assert parse_ring(payload) is None


@given(batches, st.data())
@example([("a", "xx")], None)
def test_a_ring_that_was_cut_or_lengthened_brings_nothing(events: list[tuple[str, str]], data: st.DataObject | None):
    whole = ring(*events)
    cut = data.draw(st.integers(0, len(whole) - 1)) if data else len(whole) - 1
    assert parse_ring(whole[:cut]) is None
    assert parse_ring(whole + b"x") is None


def rung_again(events: tuple[Event, ...]) -> bytes:
    """The one ring that brings these events."""
    first = events[0]
    parts = [f"{first.id} {first.previous or '-'} {first.lost or '-'} {len(events)}\n".encode()]
    for event in events:
        data = event.data.encode()
        parts.append(f"{event.type} {event.at_ms} {int(event.is_terminal)} {len(data)}\n".encode() + data)
    return b"".join(parts)


@settings(max_examples=200)
@given(batches, st.booleans(), st.data())
def test_a_ring_that_was_spoilt_brings_what_it_says_letter_by_letter_or_nothing(
    events: list[tuple[str, str]], ends: bool, data: st.DataObject
):
    payload = bytearray(ring(*events, first="7-0", previous="6-8", ends=ends))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(payload) - 1))
        end = data.draw(st.integers(start, min(len(payload), start + 4)))
        payload[start:end] = data.draw(
            st.sampled_from([b"", b"0", b"1", b"-", b" ", b"\n", b"_", b"\xff", b"a 1 0 1\n"])
        )
    found = parse_ring(bytes(payload))
    assert found is None or rung_again(found) == bytes(payload)
    assert found is None or [event.id.sequence for event in found] == [
        found[0].id.sequence + place for place in range(len(found))
    ]
