"""A server whose Redis must not be used as it is set up: it sends nothing there that writes, and says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server import redis_checks
from server.cli.server import why_not
from server.streams.connections import connect, execute
from server.streams.durability import Durability
from server.streams.keys import Keys
from server.web.readiness import Readiness
from tests.support.event_reader import EVENT_STREAM, reading
from tests.support.played_worker import COUNTDOWN, FREE, PlayedWorker
from tests.support.ports import unused_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.web import Web, serving

#: What this Redis lacks, by what is asked for.
LACKS = {"fsync": "this Redis has no append-only file", "replicated": "no replica is connected to this Redis"}


@pytest.fixture
async def own_redis() -> AsyncIterator[RedisServer]:
    # As its replica is told by its master, and not by itself: at once.
    with RedisServer(options=("--repl-diskless-sync-delay", "0")) as server:
        client = connect(server.url, name="test")
        await PlayedWorker(client, Keys()).offer(FREE, COUNTDOWN)
        await client.aclose()
        yield server


@pytest.fixture(params=LACKS)
def durability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(redis_checks, "_UNSUITABLE_SECONDS", 0.05)
    return request.param


@pytest.fixture
async def task_id(own_redis: RedisServer) -> str:
    """A task and a stream, of a time when less was asked for."""
    async with serving(own_redis.url) as before:
        await before.until_ready()
        await before.client.post("/streams/chat/events", json={"data": 1})
        return (await before.create(execute=False))["id"]


async def until_judged(web: Web) -> None:
    async def is_unsuitable() -> bool:
        reasons = (await web.client.get("/health/ready")).json().get("reasons", [])
        return any("REPRISE_DURABILITY is" in each for each in reasons)

    await wait_until(is_unsuitable, description="readiness says why")


async def test_who_asks_is_told_why_without_where_redis_listens_and_the_log_says_where(
    own_redis: RedisServer, durability: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = listening_on(own_redis)
    for url, name in ((own_redis.url, "redis.sock"), (f"redis://127.0.0.1:{port}", str(port))):
        caplog.clear()
        async with serving(url, durability=durability) as web:
            await until_judged(web)
            told = [
                await web.client.get("/health/ready"),
                await web.client.post("/tasks", json={"type": "free"}),
                await web.client.get("/stream/countdown/3", headers=EVENT_STREAM),
            ]
        for each in told:
            assert LACKS[durability] in each.text
            assert name not in each.text
        assert any(name in line and LACKS[durability] in line for line in caplog.messages)


async def state_of(web: Web, task_id: str) -> list[Any]:
    paths = ("/tasks", f"/tasks/{task_id}", "/streams", "/streams/chat/history", "/dead-letters")
    answers = [await web.client.get(path) for path in paths]
    assert [each.status_code for each in answers] == [200] * len(paths)
    task_list, task, streams, history, dead_letters = (each.json() for each in answers)
    # How long each stream still lasts is a clock, and no state; nor is how many workers were heard of lately.
    for each in (*task_list["tasks"], task):
        each.pop("workers", None)
    return [task_list, task, len(streams["streams"]), history, dead_letters]


async def test_whatever_writes_is_503_with_the_reason_and_changes_nothing_while_reading_goes_on(
    own_redis: RedisServer, durability: str, task_id: str
) -> None:
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/tasks", {"type": "free"}),
        ("POST", f"/tasks/{task_id}/execute", {}),
        ("POST", f"/tasks/{task_id}/cancel", None),
        ("DELETE", f"/tasks/{task_id}", None),
        ("POST", "/streams/chat/events", {"data": 2}),
        ("POST", "/streams/chat/close", {}),
        ("PUT", "/streams/news", {"keep": "latest"}),
        ("DELETE", "/streams/chat", None),
        ("POST", f"/dead-letters/{task_id}/retry", None),
        ("DELETE", f"/dead-letters/{task_id}", None),
    ]
    async with serving(own_redis.url, durability=durability) as web:
        await until_judged(web)
        before = await state_of(web, task_id)
        for method, path, body in requests:
            refused = await web.client.request(method, path, json=body)
            assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json"), path
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["code"] == "not_stored"
            assert LACKS[durability] in refused.json()["detail"]
            # What the commands show of it.
            assert LACKS[durability] in why_not(refused)
        assert await state_of(web, task_id) == before


async def test_an_eventsource_that_would_start_something_is_asked_to_come_back_and_starts_nothing(
    own_redis: RedisServer, durability: str
) -> None:
    async with serving(own_redis.url, durability=durability) as web:
        await until_judged(web)
        for _ in range(2):
            async with reading(web.client, "/stream/countdown/3") as reader:
                assert await reader.rest() == []
            assert len(reader.retries) == 1
        told = await web.client.get("/stream/countdown/3", headers=EVENT_STREAM)
        assert LACKS[durability] in told.text
        assert (await web.client.get("/tasks")).json()["tasks"] == []


async def test_a_redis_that_was_mended_is_used(own_redis: RedisServer, durability: str) -> None:
    async with serving(own_redis.url, durability=durability) as web:

        async def is_created() -> bool:
            asked = await web.client.post("/tasks", json={"type": "free"}, headers={"idempotency-key": "i"})
            return asked.status_code == 202

        await until_judged(web)
        assert not await is_created()
        with RedisServer() as replica:
            if durability == "fsync":
                own_redis.command("CONFIG", "SET", "appendonly", "yes")
            else:
                port = listening_on(own_redis)
                replica.command("REPLICAOF", "127.0.0.1", port)
            await web.until_ready()
            # A replica that has connected only now may confirm nothing for a while yet.
            await wait_until(is_created, description="a task is created")


def listening_on(server: RedisServer) -> int:
    port = unused_port()
    server.command("CONFIG", "SET", "port", port)
    return port


async def test_of_a_redis_that_has_answered_before_no_wrong_address_is_suspected(caplog: pytest.LogCaptureFixture):
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        client = connect(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", name="test")
        readiness = Readiness(ping=lambda: execute(client, "PING"), is_live=lambda: True, has_tls=False)
        readiness.unsuitable = ["It has no append-only file."]
        looking = asyncio.create_task(redis_checks.until_usable(client, Durability.FAST, readiness))
        await wait_until(lambda: "Redis cannot be reached" in caplog.text, description="it is said")
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await client.aclose()
    assert "If it speaks TLS" not in caplog.text
