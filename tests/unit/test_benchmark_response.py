"""The benchmark's HTTP side: the body's bytes come out whole, however they were chunked and cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.response import BadResponse, Response

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=8),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_a_chunked_body_comes_out_as_it_went_in(chunks: list[bytes], cuts: list[int]):
    wire = CHUNKED + b"".join(map(chunk, chunks)) + b"0\r\n\r\n"
    response, found = Response(), b""
    for size in cuts * (len(wire) // sum(cuts) + 1):
        if wire and not response.is_over:
            found += b"".join(response.pieces(wire[:size]))
        wire = wire[size:]
    assert (found, response.is_over, response.status) == (b"".join(chunks), True, 200)
    assert response.content_type == b"text/event-stream"


def test_a_body_without_chunks_is_handed_on():
    response = Response()
    assert response.pieces(HEAD + b"\r\n: hi\n\n") == [b": hi\n\n"]
    assert response.pieces(b"data: 1\n\n") == [b"data: 1\n\n"]
    assert not response.is_over


@pytest.mark.parametrize("wire", [b"SSH-2.0-x\r\n\r\n", CHUNKED + b"zz\r\n", CHUNKED + b"x" * 100, b"x" * 20_000])
def test_bytes_that_are_no_response_are_refused(wire: bytes):
    with pytest.raises(BadResponse):
        Response().pieces(wire)
