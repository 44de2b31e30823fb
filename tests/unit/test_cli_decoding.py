"""The command line's reader of event streams: what the standard says, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.decoding import Decoder, Received

EXAMPLES = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Received("message", "YHOO\n+2\n10", "")]),
    (b": test\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n", [
        Received("message", "first", "1"),
        Received("message", "second", ""),
        Received("message", " third", ""),
    ]),
    (b"data\n\ndata\ndata\n\ndata:", [Received("message", "", ""), Received("message", "\n", "")]),
    (b"data:test\n\ndata: test\n\n", [Received("message", "test", ""), Received("message", "test", "")]),
    (b"event: tick\r\nid: 5-0\r\ndata: {}\r\n\r\n", [Received("tick", "{}", "5-0")]),
    (b"event: tick\rdata: a\r\rdata: b\r\r:", [Received("tick", "a", ""), Received("message", "b", "")]),
    ("data: a\u2028b\x85c\n\n".encode(), [Received("message", "a\u2028b\x85c", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("stream", "expected"), EXAMPLES)
def test_examples_of_the_standard(stream: bytes, expected: list[Received]):
    assert list(Decoder().feed(stream)) == expected


@given(st.sampled_from(EXAMPLES), st.data())
def test_where_the_bytes_are_cut_changes_nothing(example: tuple[bytes, list[Received]], data: st.DataObject):
    stream, expected = example
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = Decoder()
    found: list[Received] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == expected


def test_the_cursor_moves_only_with_the_end_of_an_event():
    decoder = Decoder(cursor="1-0")
    assert list(decoder.feed(b"id: 1-1\ndata: half")) == []
    assert decoder.cursor == "1-0"
    assert list(decoder.feed(b"\n\n")) == [Received("message", "half", "1-1")]
    assert decoder.cursor == "1-1"


def test_an_event_without_an_id_keeps_the_cursor():
    decoder = Decoder(cursor="1-0")
    assert list(decoder.feed(b"event: gap\ndata: {}\n\n")) == [Received("gap", "{}", "1-0")]
    assert decoder.cursor == "1-0"


def test_an_event_says_whether_it_has_an_id_of_its_own():
    decoder = Decoder()
    stream = b"id: 1-0\ndata: a\n\nevent: gap\ndata: b\n\nid: 1-1\n\ndata: c\n\n"
    assert [(each.id, each.has_id) for each in decoder.feed(stream)] == [("1-0", True), ("1-0", False), ("1-1", False)]


def test_the_newest_comment_is_kept():
    decoder = Decoder()
    assert list(decoder.feed(b"retry: 500\n: reprise\n\n: Redis is away.\n\n")) == []
    assert decoder.comment == "Redis is away."


@pytest.mark.parametrize(("line", "expected"), [("retry: 500", 500), ("retry: 1.5", None), ("retry: ٣", None)])
def test_only_plain_digits_set_the_time_to_reconnect(line: str, expected: int | None):
    decoder = Decoder()
    assert list(decoder.feed(f"{line}\n: hello\n\n".encode())) == []
    assert decoder.retry_ms == expected
