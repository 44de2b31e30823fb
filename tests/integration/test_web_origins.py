"""Pages of other origins: the headers are on every answer, or a browser closes an EventSource for good."""

from __future__ import annotations

import pytest

from tests.support.event_reader import EVENT_STREAM, reading
from tests.support.redis_server import RedisServer
from tests.support.web import serving

PAGE = "https://page.example"
ALLOWED = {"allowed_origins": (PAGE,)}


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/health/live", "*/*", 200),
        ("/tasks/none", "*/*", 404),
        ("/tasks/none/events", "text/event-stream", 404),
        ("/tasks?limit=x", "*/*", 400),
        ("/nowhere", "*/*", 404),
    ],
)
async def test_every_answer_lets_an_allowed_page_read_it(path: str, accept: str, status: int, redis_url: str) -> None:
    async with serving(redis_url, **ALLOWED) as web:
        answer = await web.client.get(path, headers={"origin": PAGE, "accept": accept})
        other = await web.client.get(path, headers={"origin": "https://other.example", "accept": accept})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-origin" not in other.headers


async def test_an_open_stream_lets_an_allowed_page_read_it(redis_url: str) -> None:
    async with (
        serving(redis_url, **ALLOWED) as web,
        reading(web.client, "/stream/system", headers={"origin": PAGE}) as reader,
    ):
        assert reader.response.headers["access-control-allow-origin"] == PAGE
        assert reader.response.headers["content-type"] == "text/event-stream"


async def test_a_refusal_lets_an_allowed_page_come_back() -> None:
    with RedisServer() as own:
        own.kill()
        async with serving(own.url, **ALLOWED) as web:
            headers = {"origin": PAGE, **EVENT_STREAM}
            answer = await web.client.get("/tasks/none/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_a_browser_that_asks_first_is_told_what_it_may_send(redis_url: str) -> None:
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,idempotency-key,last-event-id",
    }
    async with serving(redis_url, **ALLOWED) as web:
        answer = await web.client.request("OPTIONS", "/tasks", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_without_allowed_origins_no_page_of_another_origin_reads_anything(redis_url: str) -> None:
    async with serving(redis_url) as web:
        answer = await web.client.get("/health/live", headers={"origin": PAGE})
    assert "access-control-allow-origin" not in answer.headers
