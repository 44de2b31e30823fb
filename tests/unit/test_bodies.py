"""Reading a body: no more of it is taken in than it may have, whatever its sender says of its length."""

from __future__ import annotations

from threading import get_ident
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Scope

from server.web.bodies import apart, read_body, whole_number
from server.web.problems import Problem

CHUNK = b"x" * 1000


class Sender:
    """Sends chunks for ever, or until it has sent so many."""

    def __init__(self, chunks: int | None = None) -> None:
        self._chunks = chunks
        self.sent = 0

    async def receive(self) -> Message:
        self.sent += 1
        return {"type": "http.request", "body": CHUNK, "more_body": self.sent != self._chunks}

    def request(self, **headers: str) -> Request[Any]:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope: Scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}
        return Request(scope, self.receive)


async def test_a_body_without_end_is_refused_after_as_much_as_it_may_have():
    sender = Sender()
    with pytest.raises(Problem, match="larger than 4500 bytes") as refused:
        await read_body(sender.request(), max_bytes=4500)
    assert (refused.value.status, sender.sent) == (413, 5)


async def test_a_body_that_says_it_is_too_large_is_not_read_at_all():
    sender = Sender()
    with pytest.raises(Problem, match="all together"):
        await read_body(sender.request(content_length="4501"), max_bytes=4500, advice="all together")
    assert sender.sent == 0


@pytest.mark.parametrize("said", ["1", "4500", "x", ""])
async def test_a_body_is_as_long_as_it_is_whatever_was_said(said: str):
    body = await read_body(Sender(4).request(content_length=said), max_bytes=4500)
    assert body == CHUNK * 4


@pytest.mark.parametrize(("length", "is_apart"), [("65536", False), ("65537", True), ("", True)])
async def test_a_body_that_may_be_large_is_looked_at_where_it_holds_up_no_reader(length: str, is_apart: bool):
    headers = {"content_length": length} if length else {}
    assert (await apart(Sender().request(**headers), get_ident) != get_ident()) == is_apart


@pytest.mark.parametrize(
    ("value", "number"),
    [(2, 2), (2.0, 2), (2.5, None), (True, None), ("2", None), (None, None), (float("inf"), None)],
)
def test_a_whole_number_is_one_however_it_is_written(value: object, number: int | None):
    assert whole_number(value) == number
