"""Frames: what a browser makes of our bytes, by the standard's examples and by a decoder we did not write."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.fanout.frames import (
    HEARTBEAT_COMMENT,
    HEARTBEAT_EVENT,
    attempt_frame,
    event_frame,
    gap_frame,
    position_frame,
    preamble,
    retry_frame,
)
from server.streams.event import Event, decode_entry
from server.streams.ids import MAX_HALF, EventId
from tests.support.frames import decode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(alphabet=" \n\r:adt", max_size=30)
types = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)
event_ids = st.builds(EventId, st.integers(0, MAX_HALF), st.integers(0, MAX_HALF))


def logged(data: str, event_type: str = "t", event_id: str = "7-3") -> Event:
    return decode_entry(event_id.encode(), [b"e", event_type.encode(), b"d", data.encode()])


@given(event_ids, types, texts)
@example(EventId(1, 1), "t", "\u2028\u2029\u0085\x0b\x0c\x1c")
@example(EventId(1, 1), "t", "\ufeffdata: x")
@example(EventId(1, 1), "t", "\0")
@example(EventId(1, 1), "message", " leading space")
@example(EventId(1, 1), "t", "id: 9-9\n\nevent: forged")
@example(EventId(1, 1), "t", "\r\n\r\n")
def test_a_decoder_gets_back_any_text_with_its_id_and_type(event_id: EventId, event_type: str, data: str):
    [found] = decode(event_frame(logged(data, event_type, str(event_id))))
    assert (found.id, found.event) == (str(event_id), event_type)
    assert found.data == data.replace("\r\n", "\n").replace("\r", "\n")


@given(st.lists(texts, max_size=5))
def test_frames_that_follow_each_other_in_one_write_stay_apart(datas: list[str]):
    blocks = [event_frame(logged(data, event_id=f"7-{place}")) for place, data in enumerate(datas)]
    assert [event.id for event in decode(*blocks)] == [f"7-{place}" for place in range(len(datas))]


# https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation, each as what we would send
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("YHOO\n+2\n10", [b"data: YHOO", b"data: +2", b"data: 10"]),
        ("first event", [b"data: first event"]),
        ("\n", [b"data: ", b"data: "]),
        ("", [b"data: "]),
        ("test", [b"data: test"]),
        (" third event", [b"data:  third event"]),
    ],
)
def test_data_is_written_as_the_standard_reads_it(data: str, lines: list[bytes]):
    frame = event_frame(logged(data))
    assert frame == b"\n".join([b"id: 7-3", b"event: t", *lines, b"", b""])
    assert decode(frame)[0].data == data


def test_a_position_takes_a_composite_id_as_well():
    assert position_frame("a:0-0,b:1-1") == b"id: a:0-0,b:1-1\nevent: position\ndata: {}\n\n"


def test_a_position_moves_the_cursor_and_carries_data_because_firefox_ignores_an_id_without():
    [found] = decode(position_frame(EventId(7, 3)))
    assert (found.id, found.event, found.data) == ("7-3", "position", "{}")


@pytest.mark.parametrize(
    "frame",
    [
        gap_frame("chat", requested=EventId(7, 3), resumed_at=EventId(7, 9), missed=5),
        gap_frame("chat", requested=None, resumed_at=None, missed=None),
        attempt_frame('{"attempt":2}'),
        HEARTBEAT_EVENT,
    ],
)
def test_what_is_told_without_being_in_the_log_has_data_and_never_moves_a_cursor(frame: bytes):
    before, told = decode(position_frame(EventId(7, 3)), frame)
    assert b"id:" not in frame
    assert told.id == before.id
    assert json.loads(told.data) is not None


def test_a_gap_tells_what_was_asked_for_and_where_it_goes_on():
    [found] = decode(gap_frame("chat", requested=EventId(7, 3), resumed_at=EventId(7, 9), missed=5))
    assert found.event == "gap"
    assert found.json() == {"stream": "chat", "requested": "7-3", "resumed_at": "7-9", "missed": 5}
    [found] = decode(gap_frame("chat", requested=None, resumed_at=None, missed=None))
    assert found.json() == {"stream": "chat", "requested": None, "resumed_at": None, "missed": None}


def test_the_preamble_and_the_comment_heartbeat_carry_no_event():
    assert decode(preamble(2000), HEARTBEAT_COMMENT) == []
    assert preamble(2000) == b"retry: 2000\n: reprise\n\n"
    assert HEARTBEAT_COMMENT.startswith(b":")


def test_retry_is_a_whole_number_of_milliseconds_alone_in_its_block():
    assert retry_frame(500) == b"retry: 500\n\n"


@pytest.mark.parametrize(
    "frame",
    [
        event_frame(logged("a\nb")),
        position_frame(EventId(1, 1)),
        gap_frame("s", requested=None, resumed_at=None, missed=None),
        attempt_frame("{}"),
        retry_frame(1),
        preamble(1),
        HEARTBEAT_COMMENT,
        HEARTBEAT_EVENT,
    ],
)
def test_every_block_ends_with_one_empty_line_and_has_line_feeds_only(frame: bytes):
    assert frame.endswith(b"\n\n")
    assert b"\n\n" not in frame[:-1]
    assert b"\r" not in frame
