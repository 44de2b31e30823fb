"""What stands in the way: Redis away, a full server, a server about to stop. No EventSource is ever stranded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from server.streams.connections import connect
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.event_reader import EVENT_STREAM, EventReader, reading, types_of
from tests.support.played_worker import COUNTDOWN, FREE, PlayedWorker, event
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.web import Web, serving


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may kill, freeze and start again, with its data kept."""
    with RedisServer(keeps_data=True) as server:
        yield server


@pytest.fixture
async def own_worker(own_redis: RedisServer, keys: Keys) -> AsyncIterator[PlayedWorker]:
    client = connect(own_redis.url, name="test")
    worker = PlayedWorker(client, keys)
    await worker.offer(FREE, COUNTDOWN)
    yield worker
    await client.aclose()


async def refused(web: Web, path: str) -> EventReader:
    """Open a stream that is refused: 200, `retry:`, end."""
    async with reading(web.client, path) as reader:
        assert await reader.rest() == []
    assert len(reader.retries) == 1
    assert reader.response.headers["content-type"] == "text/event-stream"
    assert reader.response.headers["cache-control"] == "no-store, no-transform"
    return reader


STREAMS = [
    "/tasks/some/events",
    "/tasks/stream",
    "/stream/system",
    "/stream/countdown/3",
    "/events?stream=chat&stream=tasks.some",
]


async def test_without_redis_an_eventsource_is_asked_to_come_back(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with serving(own_redis.url) as web:
        for path in STREAMS:
            reader = await refused(web, path)
            assert 1000 <= reader.retries[0] <= 3000


async def test_without_redis_everything_else_gets_503_and_a_time_to_come_back(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with serving(own_redis.url) as web:
        task = {"type": "free"}
        for method, path, body, accept in [
            ("POST", "/tasks", task, "*/*"),
            ("POST", "/tasks", task, "text/event-stream"),
            ("POST", "/tasks/some/execute", None, "*/*"),
            ("POST", "/tasks/some/execute", None, "text/event-stream"),
            ("POST", "/tasks/some/cancel", None, "*/*"),
            ("DELETE", "/tasks/some", None, "*/*"),
            ("GET", "/tasks", None, "*/*"),
            ("GET", "/tasks/some", None, "*/*"),
            ("GET", "/task-types", None, "*/*"),
            ("GET", "/tasks/some/events", None, "*/*"),
        ]:
            response = await web.client.request(method, path, json=body, headers={"accept": accept})
            assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
            assert int(response.headers["retry-after"]) >= 1


async def test_readiness_is_red_without_redis_and_green_once_it_is_there(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.kill()
    with caplog.at_level(logging.INFO, logger="server.redis_checks"):
        async with serving(own_redis.url) as web:
            response = await web.client.get("/health/ready")
            assert (response.status_code, response.json()["reasons"]) == (503, ["Redis does not answer."])
            assert (await web.client.get("/health/live")).json() == {"status": "live"}
            own_redis.start()
            await web.until_ready()
            assert (await web.client.get("/health/ready")).json() == {"status": "ready"}
    said = [each.message for each in caplog.records if each.name == "server.redis_checks"]
    assert [message[:24] for message in said] == ["Redis cannot be reached,", "Redis answers now"]


async def test_a_server_that_loses_redis_turns_red_and_recovers_with_its_readers_in_place(
    own_redis: RedisServer, own_worker: PlayedWorker
) -> None:
    async with serving(own_redis.url) as web:
        await web.until_ready()
        task_id = (await web.create())["id"]
        async with own_worker.run(task_id) as writer, reading(web.client, f"/tasks/{task_id}/events") as reader:
            await writer.emit(event("token", {"text": "before"}))
            assert types_of(await reader.take(2)) == ["attempt", "token"]
            own_redis.kill()
            await writer.emit(event("token", {"text": "meanwhile"}))

            async def is_red() -> bool:
                return (await web.client.get("/health/ready")).status_code == 503

            await wait_until(is_red, description="readiness turned red")
            own_redis.start()
            await web.until_ready()
            await writer.finish(Status.COMPLETED, '{"result":null}')
            assert types_of(await reader.rest()) == ["token", "complete"]


async def test_a_frozen_redis_turns_readiness_red_before_any_command_is_given_up(
    own_redis: RedisServer, own_worker: PlayedWorker
) -> None:
    async with serving(own_redis.url) as web:
        await web.until_ready()
        own_redis.pause()
        asking = asyncio.create_task(web.client.get("/tasks"), name="somebody who is more patient")
        try:
            response = await web.client.get("/health/ready")
            assert not asking.done(), "a balancer has to wait as long as anybody"
        finally:
            own_redis.resume()
            await asking
        assert response.status_code == 503
        await web.until_ready()


async def test_refusals_grow_with_their_number(own_redis: RedisServer) -> None:
    own_redis.kill()
    async with serving(own_redis.url) as web:
        times = [(await refused(web, "/stream/system")).retries[0] for _ in range(600)]
    assert max(times[:50]) <= 3000
    assert min(times[-50:]) >= 2500


async def test_a_full_server_asks_the_next_reader_to_come_back_and_starts_nothing_for_it(
    redis_url: str, worker: PlayedWorker
) -> None:
    async with serving(redis_url, max_connections=1) as web:
        await web.until_ready()
        task_id = (await web.create(execute=False))["id"]
        async with reading(web.client, f"/tasks/{task_id}/events") as first:
            await first.next()
            for path in ("/stream/system", "/stream/countdown/3", f"/tasks/{task_id}/events"):
                await refused(web, path)
            for path, body in [(f"/tasks/{task_id}/execute", None), ("/tasks", {"type": "free"})]:
                response = await web.client.post(path, headers=EVENT_STREAM, json=body)
                assert (response.status_code, "retry-after" in response.headers) == (503, True)
            assert len((await web.client.get("/tasks")).json()["tasks"]) == 1
            assert web.hub.subscribers == 1
        await wait_until(lambda: web.hub.subscribers == 0, description="the first reader is gone")
        async with reading(web.client, "/stream/system") as reader:
            assert (await reader.next()).event == "position"


async def test_a_burst_of_readers_never_exceeds_what_the_server_may_carry(redis_url: str, worker: PlayedWorker) -> None:
    async with serving(redis_url, max_connections=10) as web:
        await web.until_ready()
        done = asyncio.Event()

        async def read() -> bool:
            async with reading(web.client, "/stream/system") as reader:
                try:
                    await reader.next()
                except StopAsyncIteration:
                    return False
                await done.wait()
                return True

        readers = [asyncio.create_task(read()) for _ in range(40)]
        await wait_until(lambda: sum(each.done() for each in readers) == 30, description="thirty are refused")
        assert web.hub.subscribers == 10
        done.set()
        assert sum(await asyncio.gather(*readers)) == 10


async def test_an_unexpected_error_strands_no_eventsource(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(web.hub, "subscribe", broken)
    await refused(web, "/stream/system")
    response = await web.client.get("/stream/system")
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert "a bug" not in response.text
    assert [str(failure) for failure in web.client.failures] == ["a bug"] * 2
    web.client.failures.clear()


async def test_draining_ends_every_stream_with_a_time_to_come_back_and_refuses_new_ones(
    redis_url: str, worker: PlayedWorker
) -> None:
    async with serving(redis_url) as web:
        await web.until_ready()
        task_id = (await web.create(execute=False))["id"]
        async with reading(web.client, f"/tasks/{task_id}/events") as one, reading(web.client, "/stream/system") as two:
            await one.next()
            await two.next()
            drained = asyncio.create_task(web.app.state.drain())
            for reader in (one, two):
                assert await reader.rest() == []
                assert 500 <= reader.retries[-1] <= 3000
            async with asyncio.timeout(30):
                await drained
        assert (await web.client.get("/health/ready")).json()["reasons"] == ["The server is about to stop."]
        await refused(web, "/stream/system")
        response = await web.client.post(f"/tasks/{task_id}/execute", headers=EVENT_STREAM)
        assert (response.status_code, "retry-after" in response.headers) == (503, True)
        assert (await web.client.get(f"/tasks/{task_id}")).json()["status"] == "pending"


async def test_a_drain_waits_no_longer_than_its_deadline(redis_url: str, worker: PlayedWorker) -> None:
    async with serving(redis_url, drain_seconds=0.3) as web:
        await web.until_ready()
        task_id = (await web.create())["id"]
        async with worker.run(task_id) as writer, web.client.stream("GET", f"/tasks/{task_id}/events") as response:
            assert response.status_code == 200
            for number in range(20):  # nobody reads, so the response is stuck in the middle of these
                await writer.emit(event("token", {"text": "x", "n": number}))
                await writer.flush()
            async with asyncio.timeout(30):
                await web.app.state.drain()
            assert web.hub.subscribers == 0


async def test_a_redis_that_evicts_streams_is_not_used_until_it_is_told_not_to(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    async with serving(own_redis.url) as web:

        async def reasons() -> list[str]:
            document = (await web.client.get("/health/ready")).json()
            return [each for each in document.get("reasons", []) if "volatile-lru" in each]

        (reason,) = await wait_until(reasons, description="readiness names the policy")
        assert "CONFIG SET maxmemory-policy noeviction" in reason
        assert reason.startswith("Redis has maxmemory-policy")
        own_redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await web.until_ready()


async def test_a_stream_that_fails_after_its_task_was_started_says_where_to_follow_it(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise LogUnavailable("Redis went away")

    monkeypatch.setattr(web.hub, "subscribe", away)
    async with reading(web.client, "/tasks", method="POST", json={"type": "free"}) as reader:
        assert await reader.rest() == []
    location = reader.response.headers["location"]
    assert (len(reader.retries), (await web.client.get(location)).json()["status"]) == (1, "pending")


async def test_a_subscription_that_breaks_ends_its_response_cleanly(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(web.client, "/stream/system") as reader:
        await reader.next()

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("server.fanout.window.Window.after", broken)
        await web.create()
        assert await reader.rest() == []
    assert "A subscription failed" in caplog.text
    await wait_until(lambda: web.hub.subscribers == 0, description="the subscription is closed")
