"""What a client is told while nothing can be made as durable as REPRISE_DURABILITY asks for."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from server.streams.connections import connect
from server.streams.keys import Keys
from tests.support.event_reader import reading
from tests.support.played_worker import COUNTDOWN, FREE, PlayedWorker
from tests.support.redis_server import RedisServer
from tests.support.replicated import Replicated, in_vain
from tests.support.waiting import wait_until
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


async def test_an_eventsource_that_starts_what_is_not_safe_in_time_is_told_its_id_and_comes_back_to_the_same_task(
    pair: Replicated, web: Web
) -> None:
    pair.replica.pause()
    with in_vain():
        async with reading(web.client, "/stream/countdown/3") as reader:
            (position,) = await reader.rest()
    assert len(reader.retries) == 1
    (task,) = (await web.client.get("/tasks")).json()["tasks"]
    assert (position.event, position.id) == ("position", f"tasks.{task['id']}:0-0")
    # It is told that it has started, so a worker hears of it.
    ready = Keys().ready(task["queue"], "countdown")
    entries = cast("list[Any]", pair.master.command("XRANGE", ready, "-", "+"))
    assert [fields for _, fields in entries] == [{b"task": task["id"].encode()}]
    again = {"last-event-id": position.id}
    async with reading(web.client, "/stream/countdown/3", headers=again) as reader:
        assert len((await web.client.get("/tasks")).json()["tasks"]) == 1
    pair.replica.resume()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the log says of how durable things are."""
    caplog.set_level(logging.INFO, logger="server.streams.safety")
    return lambda: [each.message for each in caplog.records if each.name == "server.streams.safety"]


async def test_that_nothing_is_safe_is_said_once_however_many_requests_meet_it_and_once_when_it_is_over(
    pair: Replicated, web: Web, said: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    pair.replica.pause()
    with in_vain():
        for _ in range(3):
            assert (await web.client.post("/tasks", json={"type": "free"})).status_code == 503
        # Longer than a look: its replica is connected, but has confirmed nothing.
        await several_looks(pair.master)
    (beginning,) = said()
    assert beginning.startswith("Nothing is as durable as it has to be: What was written may be lost still. No replica")
    pair.replica.resume()
    await wait_until(lambda: len(said()) > 1, description="the end is said")
    await several_looks(pair.master)
    (_, end) = said()
    assert end.startswith("What is written is as durable again as it has to be; for ")
    warned = [each.name for each in caplog.records if each.levelno >= logging.WARNING]
    assert warned == ["server.streams.safety"]


async def several_looks(redis: RedisServer) -> None:
    """Until the server has looked some times more."""

    def probes() -> int:
        return cast("dict[str, dict[str, int]]", redis.command("INFO", "commandstats"))["cmdstat_eval"]["calls"]

    before = probes()
    await wait_until(lambda: probes() >= before + 3, description="several looks")


async def test_a_replica_that_is_lost_is_said_while_nobody_writes(
    pair: Replicated, web: Web, said: Callable[[], list[str]]
) -> None:
    pair.replica.kill()
    await wait_until(said, description="its loss is said")
    await several_looks(pair.master)
    (beginning,) = said()
    assert "no replica is connected to this Redis. Connect one, or set REPRISE_DURABILITY=fast" in beginning
    pair.replica.start()
    await wait_until(lambda: len(said()) > 1, description="the end is said")
    assert len(said()) == 2


@pytest.fixture
async def on_disk(said: Callable[[], list[str]]) -> AsyncIterator[RedisServer]:
    """Served with `fsync`, by a user who may be forbidden things."""
    with RedisServer(keeps_data=True, options=("--appendfsync", "everysec")) as own:
        own.command("ACL", "SETUSER", "guest", "on", ">secret", "+@all", "~*", "&*")
        async with serving(own.url.replace("unix://", "unix://guest:secret@"), durability="fsync") as web:
            await web.until_ready()
            yield own


async def test_a_file_that_is_switched_off_and_on_is_said_once_each_and_not_over_before_it_is_written(
    on_disk: RedisServer, said: Callable[[], list[str]]
) -> None:
    on_disk.command("CONFIG", "SET", "appendonly", "no")
    await wait_until(said, description="it is said while nobody writes")
    # To write it anew takes ages.
    on_disk.command("SET", "key", "value")
    on_disk.command("CONFIG", "SET", "rdb-key-save-delay", 600_000_000)
    on_disk.command("CONFIG", "SET", "appendonly", "yes")
    await several_looks(on_disk)
    (beginning,) = said()
    assert "this Redis has no append-only file. Set 'appendonly yes', or set REPRISE_DURABILITY=fast" in beginning
    on_disk.command("CONFIG", "SET", "appendonly", "no")
    on_disk.command("CONFIG", "SET", "rdb-key-save-delay", 0)
    on_disk.command("CONFIG", "SET", "appendonly", "yes")
    await wait_until(lambda: len(said()) > 1, description="the end is said")
    await several_looks(on_disk)
    (_, end) = said()
    assert end.startswith("What is written is as durable again as it has to be; for ")


async def test_a_redis_that_no_longer_tells_how_it_is_set_up_is_not_called_one_that_takes_no_writes(
    on_disk: RedisServer, said: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    on_disk.command("ACL", "SETUSER", "guest", "-info")
    await wait_until(said, description="it is said while nobody writes")
    await several_looks(on_disk)
    on_disk.command("ACL", "SETUSER", "guest", "+info")
    await wait_until(lambda: len(said()) > 1, description="the end is said")
    assert "NOPERM" in said()[0]
    assert not any("takes no writes" in line or "takes writes again" in line for line in caplog.messages)


async def test_a_redis_that_turns_out_unable_to_wait_is_named_with_the_way_out_and_no_task_is_made_twice(
    said: Callable[[], list[str]],
) -> None:
    # So it is with one that is older, at the same address.
    no_such_command = ("--appendfsync", "everysec", "--rename-command", "WAITAOF", "FORMERLYWAITAOF")
    with RedisServer(keeps_data=True, options=no_such_command) as own:
        client = connect(own.url, name="test")
        await PlayedWorker(client, Keys()).offer(FREE, COUNTDOWN)
        async with serving(own.url, durability="fsync") as web:
            await web.until_ready()
            await wait_until(said, description="it is said while nobody writes")
            refused = await asked_with_key(web)
            async with reading(web.client, "/stream/countdown/3") as reader:
                (position,) = await reader.rest()
            assert (refused.status_code, refused.json()["code"], position.event) == (503, "not_durable", "position")
            assert len((await web.client.get("/tasks")).json()["tasks"]) == 2
            await several_looks(own)
        await client.aclose()
    (beginning,) = said()
    assert "REPRISE_DURABILITY=fsync needs Redis 7.2 or later, or Valkey" in beginning
    assert "entinel" not in beginning
