"""Replicas that come and go behind HAProxy: readers are handed on, and none is turned away for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.haproxy import HAPROXY, Proxy, run_haproxy
from tests.e2e.product import Product, product
from tests.e2e.reader import Reader, assert_whole, following
from tests.support.http import http_client
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed on this machine"),
    pytest.mark.timeout(400),
    pytest.mark.slow,
]


@asynccontextmanager
async def balanced(folder: Path) -> AsyncGenerator[tuple[Product, Proxy]]:
    async with (
        product(folder, servers=3) as found,
        run_haproxy([server.address for server in found.servers], folder) as proxy,
    ):
        yield found, proxy


@asynccontextmanager
async def crowd(url: str, path: str, count: int) -> AsyncGenerator[tuple[list[Reader], list[asyncio.Task[None]]]]:
    readers = [Reader(url, path) for _ in range(count)]
    async with AsyncExitStack() as stack:
        yield readers, [await stack.enter_async_context(following(reader)) for reader in readers]


async def all_have(readers: Sequence[Reader], count: int) -> None:
    await asyncio.gather(*(reader.has(count, timeout=90) for reader in readers))


async def test_readers_outlive_one_replica_and_then_all_three_and_are_never_answered_with_an_error(
    tmp_path: Path, enough: Path
):
    async with balanced(tmp_path) as (found, proxy):
        task_id = await found.start_task("emit_many", url=proxy.url, count=300, interval_ms=20, until=str(enough))
        async with crowd(proxy.url, f"/tasks/{task_id}/events", 30) as (readers, reading):
            await all_have(readers, 100)
            await found.servers[0].kill()
            await all_have(readers, 250)
            await asyncio.gather(found.servers[1].kill(), found.servers[2].kill())
            # Nobody is left but the proxy, and it has to turn every reader away at least once.
            answers = [len(reader.statuses) for reader in readers]
            await wait_until(
                lambda: all(len(r.statuses) > n + 1 for r, n in zip(readers, answers, strict=True)),
                description="each reader was told twice to come back",
                timeout=90,
            )
            await asyncio.gather(*(server.start() for server in found.servers))
            enough.touch()
            await asyncio.gather(*reading)
        emitted = found.emitted_in_all(task_id)
    for reader in readers:
        assert_whole(reader.events, emitted=emitted)
        assert set(reader.statuses[:-1]) == {200}, reader.failures
        assert reader.statuses[-1] == 204


async def test_readers_of_a_replica_that_is_stopped_are_handed_on_while_the_task_runs(tmp_path: Path, enough: Path):
    async with balanced(tmp_path) as (found, proxy):
        task_id = await found.start_task("emit_many", url=proxy.url, count=20, interval_ms=20, until=str(enough))
        async with crowd(proxy.url, f"/tasks/{task_id}/events", 30) as (readers, reading):
            await all_have(readers, 20)
            assert await found.servers[0].stop() == 0
            enough.touch()
            await asyncio.gather(*reading)
        emitted = found.emitted_in_all(task_id)
    for reader in readers:
        assert_whole(reader.events, emitted=emitted)
        assert set(reader.statuses) == {200, 204}
    # Each of the others has one visit, and one to hear 204.
    assert sum(len(reader.statuses) > 2 for reader in readers) >= 5, "nobody was on the stopped replica"


async def test_posts_during_a_restart_of_every_replica_in_turn_are_all_served_by_one(tmp_path: Path):
    async with (
        balanced(tmp_path) as (found, proxy),
        http_client(proxy.url, timeout=60) as http,
    ):
        statuses: list[int] = []

        async def keep_posting() -> None:
            while True:
                key = {"idempotency-key": f"post-{len(statuses)}"}
                body = {"type": "countdown", "input": {"seconds": 1}, "execute": False}
                statuses.append((await http.post("/tasks", json=body, headers=key)).status_code)
                await asyncio.sleep(0.02)  # fifty a second: more would only take processors from the restarts

        posting = asyncio.create_task(keep_posting(), name="keep posting")
        for server in found.servers:
            assert await server.stop() == 0
            await server.start()
            await server.ready()
            await proxy.until_used(f"replica{found.servers.index(server) + 1}")
        assert not posting.done(), "the one who posts has failed"
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        created = (await http.get("/tasks", params={"limit": 1})).json()
    assert created["tasks"], created
    assert set(statuses) == {201}
