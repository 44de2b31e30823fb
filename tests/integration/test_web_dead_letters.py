"""Dead letters over HTTP and from the command line: listed, looked at, run again, forgotten."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.cli.application import run as reprise
from server.streams.connections import execute
from tests.support.log_hand import Hand
from tests.support.played_worker import PlayedWorker
from tests.support.real_server import real_server
from tests.support.web import Web


async def given_up(hand: Hand, web: Web, **input: Any) -> str:
    """A task whose worker was lost in each of its three attempts."""
    task_id = (await web.create("free", input=input))["id"]
    for number in range(3):
        await hand.claimed(task_id, nonce=f"n{number}", lease_ms=0)
    assert (await hand.claim(task_id, nonce="last")).outcome == "settled"
    await add(hand, task_id)
    return task_id


async def add(hand: Hand, task_id: str) -> None:
    at = await execute(hand.client, "ZCARD", hand.keys.dead_index)
    await execute(hand.client, "ZADD", hand.keys.dead_index, 1000 + at // 2, task_id)


async def listed(web: Web, **query: Any) -> list[str]:
    response = await web.client.get("/dead-letters", params=query)
    return [each["task_id"] for each in response.json()["dead_letters"]]


async def test_a_dead_letter_is_shown_with_its_input_and_how_each_attempt_failed(web: Web, hand: Hand):
    task_id = await given_up(hand, web, page=7)
    (found,) = (await web.client.get("/dead-letters")).json()["dead_letters"]
    assert (found["task_id"], found["type"], found["attempts"]) == (task_id, "free", 3)
    assert found["code"] == "attempts_exhausted"
    whole = (await web.client.get(f"/dead-letters/{task_id}")).json()
    assert found.items() <= whole.items()
    assert whole["input"] == {"page": 7}
    assert [(each["attempt"], each["code"]) for each in whole["errors"]] == [
        (1, "worker_lost"),
        (2, "worker_lost"),
        (3, "worker_lost"),
    ]
    assert all(each["at"].endswith("Z") for each in whole["errors"])


async def test_dead_letters_are_paged_newest_first(web: Web, hand: Hand):
    ids = [await given_up(hand, web, n=number) for number in range(7)]
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await web.client.get("/dead-letters", params={"limit": 3, "cursor": cursor})).json()
        pages.append([each["task_id"] for each in page["dead_letters"]])
        cursor = page["next"]
    assert [len(page) for page in pages] == [3, 3, 1]
    shown = [task_id for page in pages for task_id in page]
    # Two have the same time each: those come in reverse order of their ids.
    pairs = [sorted(ids[at : at + 2], reverse=True) for at in range(0, 7, 2)]
    assert shown == [task_id for pair in reversed(pairs) for task_id in pair]


async def test_a_retry_runs_the_task_again_with_all_its_attempts_and_asked_twice_it_joins(web: Web, hand: Hand):
    task_id = await given_up(hand, web)
    for _ in range(2):
        response = await web.client.post(f"/dead-letters/{task_id}/retry")
        assert (response.status_code, response.headers["location"]) == (202, f"/tasks/{task_id}")
        assert response.json()["status"] == "pending"
    assert await listed(web) == []
    assert (await web.client.get(f"/dead-letters/{task_id}")).status_code == 404
    record = await hand.claimed(task_id, nonce="again")
    assert (record.attempt, record.spent, record.errors) == (4, 1, [])


async def test_a_deleted_dead_letter_stays_a_failed_task_that_expires_as_others_do(web: Web, hand: Hand):
    task_id = await given_up(hand, web)
    before = await execute(hand.client, "PTTL", hand.keys.record(task_id))
    assert (await web.client.delete(f"/dead-letters/{task_id}")).status_code == 204
    assert await listed(web) == []
    assert (await web.client.get(f"/tasks/{task_id}")).json()["status"] == "failed"
    assert await execute(hand.client, "PTTL", hand.keys.record(task_id)) < before / 2
    assert (await web.client.delete(f"/dead-letters/{task_id}")).status_code == 404


async def test_deleting_or_rerunning_the_task_takes_it_off_the_list(web: Web, hand: Hand):
    deleted, again = await given_up(hand, web), await given_up(hand, web)
    assert (await web.client.delete(f"/tasks/{deleted}")).status_code == 204
    assert await listed(web) == [again]
    await hand.start(again, rerun_of=3)
    assert await listed(web) == []


async def test_what_the_index_names_and_no_record_confirms_is_taken_off(web: Web, hand: Hand):
    task_id = await given_up(hand, web)
    await hand.lose_record(task_id)
    assert await listed(web) == []
    assert await execute(hand.client, "EXISTS", hand.keys.dead_index) == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/dead-letters/none", 404),
        ("DELETE", "/dead-letters/none", 404),
        ("POST", "/dead-letters/none/retry", 404),
        ("GET", "/dead-letters/with%20space", 404),
        ("PUT", "/dead-letters/none", 405),
        ("GET", "/dead-letters?limit=0", 400),
        ("GET", "/dead-letters?limit=101", 400),
        ("GET", "/dead-letters?cursor=x", 400),
    ],
)
async def test_what_cannot_be_answered_is_a_problem_document(web: Web, method: str, path: str, status: int):
    response = await web.client.request(method, path)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["detail"].endswith(".")


async def test_a_failed_task_that_was_not_given_up_is_no_dead_letter(web: Web, hand: Hand):
    task_id = (await web.create("free"))["id"]
    await web.client.post(f"/tasks/{task_id}/cancel")
    response = await web.client.get(f"/dead-letters/{task_id}")
    assert response.status_code == 404
    assert repr(task_id) in response.json()["detail"]


# From the command line.


async def command(*words: str) -> int:
    """Run `reprise dead-letters …`; it blocks, so elsewhere."""
    return await asyncio.to_thread(reprise, ["dead-letters", *words])


async def test_the_command_lists_shows_retries_and_deletes(
    redis_url: str, hand: Hand, worker: PlayedWorker, capsys: pytest.CaptureFixture[str]
):
    async with real_server(redis_url) as real:
        url = f"http://127.0.0.1:{real.port}"
        ids = [
            (await real.client.post("/tasks", json={"type": "free", "input": {"n": n}})).json()["id"] for n in (1, 2)
        ]
        for task_id in ids:
            for number in range(4):
                await hand.claim(task_id, nonce=f"n{number}", lease_ms=0)
            await add(hand, task_id)
        capsys.readouterr()
        assert await command("list", "--url", url) == 0
        table = capsys.readouterr().out
        assert [line.split()[0] for line in table.splitlines()] == ["TASK", *sorted(ids, reverse=True)]
        assert "attempts_exhausted" in table
        assert await command("list", "--json", "--limit", "1", "--url", url) == 0
        found = capsys.readouterr()
        assert len(json.loads(found.out)) == 1
        assert "more than 1" in found.err
        assert await command("show", ids[0], "--url", url) == 0
        assert json.loads(capsys.readouterr().out)["input"] == {"n": 1}
        assert await command("retry", ids[0], "--url", url) == 0
        assert await command("delete", ids[1], "--url", url) == 0
        assert await command("list", "--url", url) == 0
        assert "There are no dead letters." in capsys.readouterr().err
        assert await hand.fields(ids[0]) | {"status": "pending"} == await hand.fields(ids[0])


@pytest.mark.parametrize("words", [("show", "none"), ("retry", "none"), ("delete", "../tasks")])
async def test_the_command_says_what_is_not_there_and_leaves_with_1(
    redis_url: str, worker: PlayedWorker, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
):
    async with real_server(redis_url) as real:
        assert await command(*words, "--url", f"127.0.0.1:{real.port}") == 1
    error = capsys.readouterr().err
    assert "refuses (404)" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ftp://example.org", "http://["])
async def test_the_command_says_that_nobody_can_be_asked_and_leaves_with_2(
    capsys: pytest.CaptureFixture[str], url: str
):
    assert await command("list", "--url", url) == 2
    assert capsys.readouterr().err.startswith("reprise: ")
