"""`on_disconnect="cancel"`: a task ends when its last reader anywhere has gone for longer than the grace period."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.fanout import Start
from server.fanout.following import Following
from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from server.streams.names import task_stream
from server.streams.presence import Presence
from server.streams.tasks import NewTask
from tests.support.ears import until_ears
from tests.support.event_reader import reading
from tests.support.live_side import live_side
from tests.support.played_worker import FLEETING, FREE, PlayedWorker
from tests.support.tasks import store_over
from tests.support.waiting import wait_until
from tests.support.web import Web, serving

#: Above what a busy machine may keep a reader from coming back.
GRACE_SECONDS = 4.0


@pytest.fixture
async def replicas(redis_url: str, worker: PlayedWorker) -> AsyncIterator[tuple[Web, Web]]:
    await worker.offer(FREE, FLEETING)
    async with (
        serving(redis_url, disconnect_grace_seconds=GRACE_SECONDS) as one,
        serving(redis_url, disconnect_grace_seconds=GRACE_SECONDS) as other,
    ):
        await one.until_ready()
        await other.until_ready()
        yield one, other


async def status(web: Web, task_id: str) -> str:
    return (await web.client.get(f"/tasks/{task_id}")).json()["status"]


def missing() -> int:
    """How many periods run, in which a reader that has left may come back."""
    return len([name for name in noting() if name.endswith(" left")])


def noting() -> list[str]:
    """Names of asyncio tasks that note the coming or the leaving of readers."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("reader of ")]


async def until_cancelled(web: Web, task_id: str) -> None:
    async def is_cancelled() -> bool:
        return await status(web, task_id) == "cancelled"

    await wait_until(is_cancelled, description="the task is cancelled")


async def test_a_task_whose_last_reader_has_gone_is_cancelled_after_the_grace(replicas: tuple[Web, Web]) -> None:
    one, other = replicas
    task_id = (await one.create("fleeting"))["id"]
    async with reading(one.client, f"/tasks/{task_id}/events") as first:
        await first.until("position")
        async with reading(other.client, f"/tasks/{task_id}/events") as second:
            await second.until("position")
    await until_cancelled(one, task_id)


async def test_who_comes_back_to_another_replica_within_the_grace_keeps_the_task(replicas: tuple[Web, Web]) -> None:
    one, other = replicas
    task_id = (await one.create("fleeting"))["id"]
    async with reading(one.client, f"/tasks/{task_id}/events") as first:
        await first.until("position")
    async with reading(other.client, f"/tasks/{task_id}/events") as second:
        await second.until("position")
        assert missing() == 1
        await wait_until(lambda: missing() == 0, description="the period is over that began when the first one left")
        assert await status(one, task_id) == "pending"
    await until_cancelled(one, task_id)


async def test_others_run_on_and_so_does_what_nobody_ever_followed_but_only_asked_for(
    replicas: tuple[Web, Web],
) -> None:
    one, _ = replicas
    lasting, alone = (await one.create("free"))["id"], (await one.create("fleeting"))["id"]
    fleeting = (await one.create("fleeting"))["id"]
    assert (await one.client.head(f"/tasks/{alone}/events")).status_code == 200
    for task_id in (lasting, fleeting):
        async with reading(one.client, f"/tasks/{task_id}/events") as reader:
            await reader.until("position")
    await until_cancelled(one, fleeting)
    assert [await status(one, task_id) for task_id in (lasting, alone)] == ["pending", "pending"]


async def test_a_subscription_that_no_reader_took_is_no_follower(
    redis_url: str, client: AsyncClient, keys: Keys
) -> None:
    """That of a HEAD, or of one that is refused. Nor does it keep others from being missed for longer than it lasts."""
    store = store_over(client, keys)
    stream = task_stream((await store.create(NewTask("t", {}, on_disconnect="cancel"))).id)
    told: list[str] = []
    async with live_side(redis_url, keys) as side:
        side.hub.on_followed = lambda _: told.append("followed")
        side.hub.on_unfollowed = lambda _: told.append("unfollowed")
        (await side.hub.subscribe(stream, Start())).close()
        assert told == []
        reader = await side.read(stream)
        await reader.until("position")
        assert told == ["followed"]
        asking = await side.hub.subscribe(stream, Start(all_attempts=True))
        await reader.leave()
        asking.close()
        assert told == ["followed", "unfollowed"]


async def test_readers_that_come_and_go_leave_one_leaving_to_wait_for_and_none_while_one_is_there(
    client: AsyncClient, keys: Keys
) -> None:
    following = Following(Presence(client, keys, store_over(client, keys), grace_seconds=600))

    async def come_down_to(count: int) -> None:
        await wait_until(lambda: len(noting()) == count, description=f"{count} wait, not {noting()}")

    for _ in range(20):
        following.left("tasks.a")
        following.came("tasks.a")
    following.left("tasks.a")
    following.left("tasks.a")
    following.left("tasks.b")
    await come_down_to(2)
    following.came("tasks.a")
    await come_down_to(1)
    await following.close()
    await come_down_to(0)


async def test_a_reader_whose_coming_was_not_noted_is_given_the_grace_when_its_server_is_killed(
    redis_url: str, client: AsyncClient, keys: Keys
) -> None:
    store = store_over(client, keys)
    presence = Presence(client, keys, store, grace_seconds=60)
    task_id = (await store.create(NewTask("t", {}, on_disconnect="cancel"))).id
    await execute(client, "HSET", keys.record(task_id), "unfollowed_since", 1)
    async with live_side(redis_url, keys) as side:
        await (await side.read(task_stream(task_id))).until("position")
        await presence.judge(await store.get(task_id))
        assert (await store.get(task_id)).unfollowed_since_ms == 0
    await until_ears(client, keys.bell(task_stream(task_id)), 0)
    await presence.judge(await store.get(task_id))
    found = await store.get(task_id)
    assert (found.status.value, (found.unfollowed_since_ms or 0) > 1) == ("pending", True)


async def test_the_reader_of_a_server_that_was_killed_is_missed_and_given_the_grace(
    client: AsyncClient, keys: Keys
) -> None:
    """Nobody noted its leaving: the reaper of another server finds that nobody listens, and begins the period."""
    store = store_over(client, keys)
    presence = Presence(client, keys, store, grace_seconds=0.05)
    task_id = (await store.create(NewTask("t", {}, on_disconnect="cancel"))).id
    await presence.judge(await store.get(task_id))
    assert (await store.get(task_id)).unfollowed_since_ms is None
    await presence.came(f"tasks.{task_id}")
    await presence.judge(await store.get(task_id))
    found = await store.get(task_id)
    assert (found.status.value, (found.unfollowed_since_ms or 0) > 0) == ("pending", True)
    await execute(client, "HSET", keys.record(task_id), "unfollowed_since", 1)
    await presence.judge(await store.get(task_id))
    assert (await store.get(task_id)).status.value == "cancelled"
