"""The benchmark's checker: a run in which anybody lost, doubled or reordered an event cannot pass."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.transcript import Broken, Reader, Transcript
from benchmarks.payload import encoded, filling

PREAMBLE = b"retry: 2000\n: reprise\n\n"
HEARTBEAT = b": heartbeat\n\n"
POSITION = b"id: 7-0\nevent: position\ndata: {}\n\n"
ATTEMPT = b'id: 7-0\nevent: attempt\ndata: {"attempt":1}\n\n'
GAP = b'event: gap\ndata: {"missed":3}\n\n'


def frame(number: int, *, text: str = filling(80)) -> bytes:
    return b"id: 7-%d\nevent: token\ndata: %b\n\n" % (number + 1, encoded(number, 1000 + number, text))


def frames(numbers: Sequence[int]) -> bytes:
    return b"".join(map(frame, numbers))


def transcript(events: int = 6, *, first: int = 0) -> Transcript:
    return Transcript("/s", events=events, first=first)


def two_readers(events: int = 6) -> tuple[Reader, Reader]:
    shared = transcript(events)
    return Reader("subscriber 0", shared), Reader("subscriber 1", shared)


def test_readers_that_got_every_event_in_order_have_all():
    first, second = two_readers()
    first.take(PREAMBLE + ATTEMPT + frames(range(6)))
    for number in range(6):
        assert not second.has_all
        second.take((PREAMBLE + ATTEMPT if number == 0 else b"") + frame(number))
    assert (first.has_all, second.has_all, second.count) == (True, True, 6)


def take_in_pieces(reader: Reader, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        reader.take(data[start : start + size])


WRONG = {
    "lost": ([0, 1, 3, 4, 5], "expected event 2, got event 3: events were lost"),
    "doubled": ([0, 1, 1, 2, 3, 4, 5], "expected event 2, got event 1: an event came twice or too late"),
    "reordered": ([0, 2, 1, 3, 4, 5], "expected event 1, got event 2: events were lost"),
    "lost at the beginning": ([1, 2, 3, 4, 5], "expected event 0, got event 1: events were lost"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_first_to_get_events_is_caught_with_a_wrong_one(name: str):
    numbers, sentence = WRONG[name]
    first, _ = two_readers()
    with pytest.raises(Broken, match=rf"^Stream /s, subscriber 0: {sentence}"):
        first.take(frames(numbers))


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("cut", [1, 7, 64, 10_000])
def test_another_subscriber_is_caught_with_a_wrong_event_however_its_bytes_are_cut(name: str, cut: int):
    numbers, sentence = WRONG[name]
    first, second = two_readers()
    first.take(frames(range(6)))
    wrong = frames(numbers)
    with pytest.raises(Broken, match=r"^Stream /s, subscriber 1: expected event \d, got ") as caught:
        take_in_pieces(second, wrong, cut)
    if cut > len(wrong):
        assert re.search(sentence, str(caught.value))


def test_the_last_event_lost_leaves_a_subscriber_without_all():
    first, second = two_readers()
    first.take(frames(range(6)))
    second.take(frames(range(5)))
    assert (second.has_all, second.count) == (False, 5)


def test_an_event_after_all_that_were_published_is_caught():
    first, _ = two_readers(events=2)
    with pytest.raises(Broken, match="got event 2 after all 2 that were published"):
        first.take(frames(range(3)))


def test_the_last_event_doubled_is_caught():
    first, second = two_readers(events=3)
    first.take(frames(range(3)))
    with pytest.raises(Broken, match="expected event 3, got event 2"):
        second.take(frames([0, 1, 2, 2]))


def test_an_event_with_other_bytes_is_caught():
    first, second = two_readers()
    first.take(frames(range(2)))
    with pytest.raises(Broken, match="expected event 1, got event 1 with other bytes"):
        second.take(frame(0) + frame(1, text="y" * 80))


@pytest.mark.parametrize("block", [GAP, b"event: stalled\ndata: {}\n\n", b"data: what\n\n"])
def test_being_told_of_a_loss_is_a_failure_too(block: bytes):
    first, second = two_readers()
    first.take(frames(range(2)))
    for reader in (first, second):
        with pytest.raises(Broken, match="something that is not an event came instead"):
            reader.take((b"" if reader is first else frames(range(2))) + block)


def test_numbering_may_begin_where_history_ends():
    reader = Reader("subscriber 0", transcript(2, first=40))
    reader.take(PREAMBLE + POSITION + frames([40, 41]))
    assert reader.has_all


@given(
    asides=st.lists(st.tuples(st.integers(0, 6), st.sampled_from([HEARTBEAT, POSITION, PREAMBLE])), max_size=5),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=30),
)
def test_what_carries_no_event_may_come_anywhere_between_events_and_be_cut_anywhere(
    asides: list[tuple[int, bytes]], cuts: list[int]
):
    first, second = two_readers()
    first.take(ATTEMPT + frames(range(6)))
    blocks = [ATTEMPT, *map(frame, range(6))]
    for place, aside in asides:
        blocks[place] += aside
    body = b"".join(blocks)
    for size in cuts * (len(body) // sum(cuts) + 1):
        second.take(body[:size])
        body = body[size:]
    assert (second.has_all, body) == (True, b"")


def test_a_cut_connection_forgets_the_incomplete_event_and_goes_on_after_the_last_whole_one():
    first, second = two_readers()
    first.take(frames(range(6)))
    second.take(frames(range(3)) + frame(3)[:30])
    second.rewind()
    assert second.last_event_id() == b"7-3"
    second.take(PREAMBLE + frames([3, 4, 5]))
    assert second.has_all


def test_an_event_repeated_after_a_reconnect_is_caught():
    first, second = two_readers()
    first.take(frames(range(6)))
    second.take(frames(range(3)))
    second.rewind()
    with pytest.raises(Broken, match="expected event 3, got event 2"):
        second.take(PREAMBLE + frames([2, 3]))


def test_before_the_first_event_the_position_is_the_cursor():
    reader = Reader("subscriber 0", transcript())
    assert reader.last_event_id() == b""
    reader.take(PREAMBLE + POSITION)
    assert reader.last_event_id() == b"7-0"


def test_streams_with_crlf_line_ends_are_read_alike():
    shared = Transcript("/s", events=3, line_end=b"\r\n")
    readers = [Reader(f"subscriber {index}", shared) for index in range(2)]
    body = (b": ping\n\n" + frames(range(3))).replace(b"\n", b"\r\n")
    readers[0].take(body)
    for position in range(len(body)):
        readers[1].take(body[position : position + 1])
    assert [each.has_all for each in readers] == [True, True]
    assert readers[1].last_event_id() == b"7-3"
