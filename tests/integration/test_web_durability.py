"""What a client is told while nothing can be made as durable as REPRISE_DURABILITY asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.streams.connections import connect
from server.streams.keys import Keys
from tests.support.event_reader import reading
from tests.support.played_worker import COUNTDOWN, FREE, PlayedWorker
from tests.support.replicated import Replicated, in_vain
from tests.support.web import Web, serving


@pytest.fixture
async def web(pair: Replicated) -> AsyncIterator[Web]:
    client = connect(pair.url, name="test")
    await PlayedWorker(client, Keys()).offer(FREE, COUNTDOWN)
    async with serving(pair.url, durability="replicated") as found:
        await found.until_ready()
        yield found
    await client.aclose()


async def asked_with_key(web: Web) -> Any:
    return await web.client.post("/tasks", json={"type": "free"}, headers={"idempotency-key": "i"})


async def test_a_task_that_is_not_safe_in_time_is_503_with_a_code_and_the_same_request_again_is_that_task(
    pair: Replicated, web: Web
) -> None:
    pair.replica.pause()
    with in_vain():
        refused = await asked_with_key(web)
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["code"] == "not_durable"
    assert "a failover may still undo it" in refused.json()["detail"]
    assert "same Idempotency-Key" in refused.json()["detail"]
    pair.replica.resume()
    created = await asked_with_key(web)
    assert created.status_code == 202
    listed = (await web.client.get("/tasks")).json()["tasks"]
    assert [task["id"] for task in listed] == [created.json()["id"]]


async def test_events_that_are_not_safe_in_time_are_503_with_the_same_code_and_the_request_again_gives_their_ids(
    pair: Replicated, web: Web
) -> None:
    async def publish() -> Any:
        headers = {"idempotency-key": "i"}
        return await web.client.post("/streams/chat/events", json={"data": 1}, headers=headers)

    pair.replica.pause()
    with in_vain():
        refused = await publish()
    assert (refused.status_code, refused.json().get("code")) == (503, "not_durable")
    assert "a failover may still undo it" in refused.json()["detail"]
    pair.replica.resume()
    stored = await publish()
    assert stored.status_code == 201
    history = (await web.client.get("/streams/chat/history")).json()
    assert [event["id"] for event in history["events"]] == stored.json()["ids"]


async def test_an_eventsource_that_starts_what_is_not_safe_in_time_is_asked_to_come_back(
    pair: Replicated, web: Web
) -> None:
    pair.replica.pause()
    with in_vain():
        async with reading(web.client, "/stream/countdown/3") as reader:
            assert await reader.rest() == []
    assert len(reader.retries) == 1
    pair.replica.resume()
