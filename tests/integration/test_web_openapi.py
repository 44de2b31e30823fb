"""The OpenAPI document over HTTP, and the page that shows it."""

from __future__ import annotations

import re

import pytest

from server.streams.connections import execute
from server.streams.keys import Keys
from server.web.openapi.document import document
from tests.support.event_reader import reading
from tests.support.log_hand import Hand, drafts
from tests.support.openapi import faults
from tests.support.web import Web

SCHEMAS = document()["components"]["schemas"]


async def test_the_document_is_served_as_json_that_is_asked_for_anew(web: Web) -> None:
    response = await web.client.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["cache-control"] == "no-cache"
    assert response.json() == document()


async def test_an_unchanged_document_is_not_sent_again(web: Web) -> None:
    first = await web.client.get("/openapi.json")
    again = await web.client.get("/openapi.json", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/"])
async def test_to_whom_any_version_will_do_nothing_is_sent(web: Web, path: str) -> None:
    response = await web.client.get(path, headers={"if-none-match": "*"})
    assert (response.status_code, response.content) == (304, b"")


async def test_the_page_of_the_document_loads_from_this_server_only(web: Web) -> None:
    response = await web.client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=\"|https?://", response.text)
    named = re.findall(r'"(/console/[^"]+)"', response.text)
    assert "/console/docs.js" in named
    for path in named:
        assert (await web.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("address", "cursor"), [("/streams/a/events?", "{}"), ("/events?stream=a&stream=b&", "a:{},b:0-0")]
)
async def test_what_readers_get_is_as_the_document_says(
    web: Web, hand: Hand, keys: Keys, address: str, cursor: str
) -> None:
    first = (await hand.publish("a", drafts("1", "2", "3"), token="1")).id
    await execute(hand.client, "XTRIM", keys.log("a"), "MAXLEN", 1)
    path = f"{address}last_event_id={cursor.format(first)}"
    polled = (await web.client.get(path, headers={"accept": "application/json"})).json()
    assert (len(polled["events"]), polled["gap"]["missed"]) == (1, 1)
    assert faults(SCHEMAS["Poll"], polled) == []
    async with reading(web.client, path) as reader:
        for event in await reader.take(2):
            told = {"event": event.event, "data": event.data} | ({"id": event.id} if event.event != "gap" else {})
            assert faults(SCHEMAS["StreamEvent"], told) == []
    page = (await web.client.get(f"/streams/a/history?after={first}")).json()
    assert page["gap"] is not None
    assert faults(SCHEMAS["History"], page) == []


async def test_a_poll_of_a_task_that_nobody_writes_is_as_the_document_says(web: Web, hand: Hand) -> None:
    await hand.running("x", lease_ms=0)
    for address in ("/tasks/x/events?", "/events?stream=tasks.x&"):
        await web.client.get(address, headers={"accept": "application/json"})
        answer = await web.client.get(f"{address}from=latest&wait=2", headers={"accept": "application/json"})
        assert [event["id"] for event in answer.json()["events"]] == [None]
        assert faults(SCHEMAS["Poll"], answer.json()) == []


@pytest.mark.parametrize("path", ["/", "/docs", "/console/main.js", "/console/none.js", "/openapi.json"])
async def test_a_refused_method_is_told_of_those_that_are_taken(web: Web, path: str) -> None:
    response = await web.client.post(path, json={})
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
