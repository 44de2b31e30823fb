"""Tasks that begin later: what may be asked for, what is shown, and what ends the wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import time
from typing import Any

import pytest

from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from tests.integration.test_web_bad_input import nothing_created, problem
from tests.support.event_reader import reading, types_of
from tests.support.log_hand import Hand
from tests.support.played_worker import PlayedWorker
from tests.support.tasks import queued
from tests.support.web import Web


async def delayed(client: AsyncClient, keys: Keys) -> list[str]:
    """Task ids in the delayed set, the first to begin first."""
    members: list[bytes] = await execute(client, "ZRANGE", keys.delayed("default"), 0, -1)
    return [member.decode().partition("/")[2] for member in members]


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_task_with_a_delay_is_pending_and_tells_when_it_may_begin(
    web: Web, client: AsyncClient, keys: Keys
) -> None:
    before = time()
    task = await web.create(delay=90.5)
    assert task["status"] == "pending"
    assert before + 90 < moment(task["not_before"]) < time() + 91
    assert (await web.client.get(f"/tasks/{task['id']}")).json()["not_before"] == task["not_before"]
    assert (await delayed(client, keys), await queued(client, keys)) == ([task["id"]], [])


async def test_a_time_with_its_offset_is_the_moment_it_names(web: Web, client: AsyncClient, keys: Keys) -> None:
    at = (datetime.now(UTC) + timedelta(hours=3)).replace(microsecond=0)
    shifted = at.astimezone(tz=datetime.fromisoformat("2026-01-01T00:00:00+05:30").tzinfo)
    task = await web.create(not_before=shifted.isoformat())
    assert moment(task["not_before"]) == at.timestamp()
    assert await delayed(client, keys) == [task["id"]]


@pytest.mark.parametrize("members", [{"delay": 0}, {"not_before": "2020-01-01T00:00:00Z"}, {"delay": None}])
async def test_no_delay_and_a_time_that_has_passed_mean_now(
    web: Web, client: AsyncClient, keys: Keys, members: dict[str, Any]
) -> None:
    task = await web.create(**members)
    assert (task["not_before"], await queued(client, keys), await delayed(client, keys)) == (None, [task["id"]], [])


@pytest.mark.parametrize(
    ("members", "pointer", "words"),
    [
        ({"delay": -1}, "#/delay", "-1 is not a delay. Use seconds, from 0 to 31622400"),
        ({"delay": "5"}, "#/delay", "'5' is not a delay"),
        ({"delay": True}, "#/delay", "true is not a delay"),
        ({"delay": 31_622_401}, "#/delay", "31622401 is not a delay"),
        ({"delay": 10**400}, "#/delay", "is too large"),
        ({"not_before": 1795687200000}, "#/not_before", "1795687200000 is not a time. Use a time with its offset"),
        ({"not_before": "tomorrow"}, "#/not_before", "'tomorrow' is not a time"),
        ({"not_before": "2026-11-26T10:00:00"}, "#/not_before", "is not a time. Use a time with its offset"),
        ({"not_before": "9999-12-31T23:59:59-23:59"}, "#/not_before", "is more than 366 days away"),
        ({"delay": 1, "not_before": "2026-11-26T10:00:00Z"}, "#/not_before", "Use one of the two"),
        ({"delay": 1, "execute": False}, "#/delay", "begins when it is executed"),
        ({"not_before": "2026-11-26T10:00:00Z", "execute": False}, "#/not_before", "begins when it is executed"),
    ],
)
async def test_a_time_that_cannot_be_meant_is_refused_by_its_name(
    web: Web, members: dict[str, Any], pointer: str, words: str
) -> None:
    response = await web.client.post("/tasks", json={"type": "free", **members})
    document = problem(response, 400 if "too large" in words else 422)
    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert words in document["errors"][0]["detail"]
    assert await nothing_created(web)


async def test_readers_of_a_delayed_task_wait_for_it(web: Web, hand: Hand, worker: PlayedWorker) -> None:
    async with reading(web.client, "/tasks", method="POST", json={"type": "free", "delay": 600}) as reader:
        assert (await reader.next()).event == "position"
        task_id = reader.response.headers["location"].removeprefix("/tasks/")
        assert (await hand.claim(task_id)).outcome == "early"
        await hand.amend(task_id, not_before="1")
        async with worker.run(task_id):
            assert types_of(await reader.take(1)) == ["attempt"]
        await web.client.post(f"/tasks/{task_id}/cancel")


async def test_a_delayed_task_is_cancelled_at_once_and_waits_for_nothing_any_more(
    web: Web, client: AsyncClient, keys: Keys
) -> None:
    task = await web.create(delay=600)
    async with reading(web.client, task["events_url"]) as reader:
        assert (await reader.next()).event == "position"
        cancelled = (await web.client.post(f"/tasks/{task['id']}/cancel")).json()
        assert (cancelled["status"], cancelled["not_before"]) == ("cancelled", None)
        assert types_of(await reader.rest()) == ["cancelled"]
    assert await delayed(client, keys) == []


async def test_execute_starts_a_delayed_task_now_and_once(
    web: Web, client: AsyncClient, keys: Keys, worker: PlayedWorker
) -> None:
    task_id = (await web.create(delay=600))["id"]
    for _ in range(2):
        async with reading(web.client, f"/tasks/{task_id}/execute", method="POST") as reader:
            assert (await reader.next()).event == "position"
    assert (await queued(client, keys), await delayed(client, keys)) == ([task_id], [])
    assert (await web.client.get(f"/tasks/{task_id}")).json()["not_before"] is None
    async with worker.run(task_id):
        pass


async def test_execute_does_not_hurry_a_task_that_failed_and_waits_to_be_tried_again(
    web: Web, client: AsyncClient, keys: Keys, hand: Hand
) -> None:
    task_id = (await web.create())["id"]
    await hand.claimed(task_id)
    await hand.retry(task_id)
    before = (await web.client.get(f"/tasks/{task_id}")).json()["not_before"]
    async with reading(web.client, f"/tasks/{task_id}/execute", method="POST") as reader:
        assert (await reader.next()).event == "attempt"
    assert (await web.client.get(f"/tasks/{task_id}")).json()["not_before"] == before
    assert (await hand.claim(task_id, nonce="n2")).outcome == "early"


async def test_the_same_request_under_its_key_gives_the_same_time_and_another_time_is_another_request(
    web: Web, client: AsyncClient, keys: Keys
) -> None:
    headers = {"idempotency-key": "k"}
    first = await web.client.post("/tasks", json={"type": "free", "delay": 600}, headers=headers)
    again = await web.client.post("/tasks", json={"type": "free", "delay": 600}, headers=headers)
    assert (again.json()["id"], again.json()["not_before"]) == (first.json()["id"], first.json()["not_before"])
    other = await web.client.post("/tasks", json={"type": "free", "delay": 601}, headers=headers)
    assert other.status_code == 409
    assert await delayed(client, keys) == [first.json()["id"]]
