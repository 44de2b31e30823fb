"""A server whose doorbell is cut off, and nothing else: Redis answers all it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.streams.connections import connect, execute
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.log import Log
from tests.support.event_reader import reading
from tests.support.log_hand import LIFETIMES
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.web import Web, serving


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_readiness_is_red_while_the_tail_is_dead_and_readers_go_on_by_the_sweep(own_redis: RedisServer):
    client = connect(own_redis.url, name="test")
    log = Log(client, Keys(), lifetimes=LIFETIMES, max_events=0)
    async with serving(own_redis.url, sweep_seconds=0.2) as web:
        await web.until_ready()
        async with reading(web.client, "/streams/chat.42/events") as reader:
            await log.publish("chat.42", [Draft("n", "1")])
            assert [event.event for event in await reader.take(2)] == ["position", "n"]
            own_redis.command("ACL", "SETUSER", "default", "-ssubscribe")
            own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            await wait_until(lambda: is_deaf(web), description="readiness says that the tail is dead", timeout=5)
            assert await execute(client, "PING")
            await log.publish("chat.42", [Draft("n", "2")])
            assert (await reader.next()).data == "2"
            own_redis.command("ACL", "SETUSER", "default", "+ssubscribe")
            await web.until_ready()
            await log.publish("chat.42", [Draft("n", "3")])
            assert (await reader.next()).data == "3"
    await client.aclose()


async def test_a_redis_that_may_be_another_one_is_checked_again_and_its_faults_are_said_once(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with serving(own_redis.url) as web:
        await web.until_ready()
        own_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        for _ in range(2):
            own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            await wait_until(lambda: not web.hub.is_live, description="the doorbell is lost")
            await web.until_ready()  # its readers are better off here than nowhere
            await wait_until(lambda: "maxmemory-policy 'allkeys-lru'" in caplog.text, description="it is said")
    said = [record.getMessage() for record in caplog.records if "may be another one now" in record.getMessage()]
    assert len([each for each in said if "maxmemory-policy" in each]) == 1


async def is_deaf(web: Web) -> bool:
    response = await web.client.get("/health/ready")
    return (response.status_code, response.json().get("reasons")) == (
        503,
        ["The connection that tells of new events is down."],
    )
