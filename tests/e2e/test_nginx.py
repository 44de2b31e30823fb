"""The nginx configuration in `deploy/`, run for real: events pass as they come, and no EventSource is stranded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.e2e.crowd import following_crowd
from tests.e2e.nginx import NGINX, run_nginx
from tests.e2e.product import product
from tests.e2e.reader import assert_whole
from tests.e2e.test_haproxy import (
    EVENT_SOURCE,
    NEVER_ENDING,
    Answer,
    Replica,
    answers,
    breaks_off,
    refuses,
    streams_what_was_heard,
    times_of_passing,
    until_let_go,
)
from tests.support.http import http_client
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed on this machine"),
    pytest.mark.timeout(300),
]


async def test_an_event_passes_nginx_without_waiting_for_the_next_one(tmp_path: Path):
    replicas = await started(*[streams_what_was_heard] * 3)
    async with (
        run_nginx([each.address for each in replicas], tmp_path) as port,
        client(port) as http,
        http.stream("GET", "/events", headers=EVENT_SOURCE) as response,
    ):
        # Buffered, not even the first would come: the second waits until the first was heard.
        print(f"\nnginx: {await times_of_passing(response, replicas)}")  # noqa: T201 - what it is run by hand for
    await stopped(replicas)


async def test_an_event_source_without_any_replica_is_told_when_to_come_back(tmp_path: Path):
    replicas = await started(breaks_off, breaks_off, breaks_off)
    async with run_nginx([each.address for each in replicas], tmp_path) as port, client(port) as http:
        told = await http.get("/events", headers={**EVENT_SOURCE, "origin": "https://page.example"})
        others = await http.get("/tasks")
    assert (told.status_code, told.headers["content-type"]) == (200, "text/event-stream")
    assert 1000 <= int(told.text.removeprefix("retry: ").partition("\n")[0]) <= 3000
    assert told.text.endswith("\n\n")
    assert told.headers["access-control-allow-origin"] == "https://page.example"
    assert (others.status_code, others.headers["content-type"]) == (502, "application/problem+json")
    assert (others.json()["status"], others.headers["retry-after"]) == (502, "1")
    await stopped(replicas)


async def test_an_event_source_is_known_by_its_accept_in_any_case(tmp_path: Path):
    replicas = await started(breaks_off, breaks_off, breaks_off)
    async with run_nginx([each.address for each in replicas], tmp_path) as port, client(port) as http:
        told = await http.get("/events", headers={"accept": "Text/Event-Stream"})
        posted = await http.post("/tasks/1/execute", headers=EVENT_SOURCE)
    assert (told.status_code, posted.status_code) == (200, 502)
    await stopped(replicas)


async def test_a_get_goes_to_another_replica(tmp_path: Path):
    replicas = await started(breaks_off, refuses, answers)
    async with run_nginx([each.address for each in replicas], tmp_path) as port, client(port) as http:
        assert (await http.get("/tasks")).text == replicas[2].address
    assert [len(each.asked) for each in replicas] == [1, 1, 1]
    await stopped(replicas)


async def test_a_post_that_was_sent_goes_to_no_other_replica(tmp_path: Path):
    # An nginx of its own: it leaves out for a second what failed before, and would not ask the breaking one first.
    replicas = await started(breaks_off, answers, answers)
    async with run_nginx([each.address for each in replicas], tmp_path) as port, client(port) as http:
        assert (await http.post("/tasks", json={})).status_code == 502
    assert [len(each.asked) for each in replicas] == [1, 0, 0]
    await stopped(replicas)


async def test_a_connection_whose_request_never_ends_is_ended(tmp_path: Path):
    replicas = await started(answers, answers, answers)
    async with run_nginx([each.address for each in replicas], tmp_path) as port:
        await asyncio.gather(*(until_let_go(port, begun) for begun in NEVER_ENDING))
    await stopped(replicas)


@pytest.mark.slow
async def test_readers_behind_nginx_outlive_the_stop_of_a_replica_and_the_kill_of_another(tmp_path: Path, enough: Path):
    settings = {"REPRISE_DRAIN_SECONDS": "2"}
    async with (
        product(tmp_path, servers=3, settings=settings) as found,
        run_nginx([server.address for server in found.servers], tmp_path) as port,
    ):
        url = f"http://127.0.0.1:{port}"
        task_id = await found.start_task("emit_many", url=url, count=50, interval_ms=30, until=str(enough))
        async with following_crowd(port, [f"/tasks/{task_id}/events"] * 30) as crowd:
            await wait_until(
                lambda: all(len(source.events) > 5 for source in crowd.sources), description="all read", timeout=90
            )
            assert await found.servers[0].stop() == 0
            await found.servers[1].kill()
            enough.touch()
            await crowd.until_ended(timeout=120)
        emitted = found.emitted_in_all(task_id)
        for source in crowd.sources:
            assert_whole(source.events, emitted=emitted)
            assert set(source.statuses[:-1]) <= {0, 200}
            assert source.statuses[-1] == 204
        assert sum(len(source.answers) > 2 for source in crowd.sources) >= 10, "nobody was moved"


def client(port: int) -> httpx.AsyncClient:
    return http_client(f"http://127.0.0.1:{port}", timeout=40)


async def started(*kinds: Answer) -> list[Replica]:
    replicas = [Replica(kind) for kind in kinds]
    await asyncio.gather(*(each.start() for each in replicas))
    return replicas


async def stopped(replicas: list[Replica]) -> None:
    await asyncio.gather(*(each.stop() for each in replicas))
