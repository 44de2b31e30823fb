"""The decoder of chaos runs, which shares nothing with the product's encoder: by the standards, in any pieces."""

from __future__ import annotations

import pytest

from tests.chaos.sse import EventDecoder, Malformed, Message, Response

STREAM = (
    "\ufeff: comment\nretry: 2000\n: comment\n\nid: 1-0\nevent: a\ndata: one\ndata:two\n\ndata\r\n\r\n"
    "id: 1-1\r\rdata:  ü\r\revent: lost\nid: 1-2\ndata: cut off"
).encode()


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_an_event_stream_is_decoded_in_any_pieces(size: int):
    decoder = EventDecoder("0-9")
    found = [message for start in range(0, len(STREAM), size) for message in decoder.feed(STREAM[start : start + size])]
    assert found == [Message("a", "one\ntwo", "1-0"), Message("message", "", ""), Message("message", " ü", "")]
    assert (decoder.retry_ms, decoder.last_event_id) == (2000, "1-1")


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_chunked_body_is_decoded_in_any_pieces(size: int):
    raw = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\nb;x=y\r\n world\r\nagn\r\n0\r\n\r\n"
    )
    response, body = Response(), b""
    for start in range(0, len(raw), size):
        body += response.feed(raw[start : start + size])
    assert (response.status, response.content_type, response.is_complete) == (200, "text/event-stream", True)
    assert body == b"hello world\r\nagn"


def test_a_body_that_is_counted_ends_by_its_count():
    response = Response()
    assert response.feed(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nno") == b"no"
    assert not response.is_complete
    assert response.feed(b"ne") == b"ne"
    assert response.is_complete


def test_204_has_no_body():
    response = Response()
    response.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (response.status, response.is_complete) == (204, True)


@pytest.mark.parametrize("raw", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"])
def test_what_is_no_response_is_refused(raw: bytes):
    with pytest.raises(Malformed):
        Response().feed(raw)
