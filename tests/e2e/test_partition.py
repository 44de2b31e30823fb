"""One replica is parted from Redis, and the others are not: its readers are moved, and it comes back by itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.crowd import following_crowd
from tests.e2e.haproxy import HAPROXY, run_haproxy
from tests.e2e.product import Product, Server, product
from tests.e2e.reader import Reader, assert_whole, following
from tests.support.partition import Link, linked
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]

SETTINGS = {"REPRISE_SWEEP_SECONDS": "0.5", "REPRISE_OUTAGE_SECONDS": "2", "REPRISE_DRAIN_SECONDS": "2"}


@asynccontextmanager
async def with_one_linked(folder: Path, **settings: str) -> AsyncGenerator[tuple[Product, Server, Link]]:
    """Two servers; the second one talks to Redis over a link of its own."""
    async with product(folder, settings={**SETTINGS, **settings}) as found, linked(found.redis.url) as link:
        server = found.add_server(REPRISE_REDIS_URL=link.url)
        await server.start()
        await server.ready()
        yield found, server, link
        link.heal()
        await server.close()


@pytest.mark.haproxy
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed on this machine")
async def test_readers_of_a_replica_that_is_parted_from_redis_are_moved_to_another(tmp_path: Path, enough: Path):
    async with (
        with_one_linked(tmp_path) as (found, parted, link),
        run_haproxy([server.address for server in found.servers], tmp_path) as proxy,
    ):
        task_id = await found.start_task("emit_many", url=proxy.url, count=50, interval_ms=50, until=str(enough))
        async with following_crowd(proxy.port, [f"/tasks/{task_id}/events"] * 20) as crowd:
            await wait_until(
                lambda: all(len(source.events) > 5 for source in crowd.sources), description="all read", timeout=90
            )
            link.part()
            await until_red(parted)
            await wait_until(lambda: "asked to come back elsewhere" in parted.text, description="they are sent away")
            enough.touch()
            await crowd.until_ended(timeout=120)
            assert await parted.health() == 503, "the partition had healed too soon to show anything"
            link.heal()
            await parted.ready()
        emitted = found.emitted_in_all(task_id)
        for source in crowd.sources:
            assert_whole(source.events, emitted=emitted)
            assert set(source.statuses[:-1]) == {200}
            assert all(answer.is_whole for answer in source.answers)
        moved = [source for source in crowd.sources if len(source.answers) > 2]
        assert len(moved) >= 5, "nobody was on the parted replica"
        # It has healed by itself, and serves again.
        reader = Reader(parted.url, f"/tasks/{task_id}/events")
        await reader.follow()
        assert_whole(reader.events, emitted=emitted)


async def test_a_reader_that_knows_no_other_replica_goes_on_when_the_partition_heals(tmp_path: Path, enough: Path):
    async with with_one_linked(tmp_path) as (found, parted, link):
        task_id = await found.start_task("emit_many", count=300, interval_ms=20, until=str(enough))
        reader = Reader(parted.url, f"/tasks/{task_id}/events")
        async with following(reader) as followed:
            await reader.has(20)
            link.part()
            # The first answer ended; the second is a refusal, which is none to an EventSource.
            await wait_until(lambda: len(reader.statuses) >= 2, description="it was told to come back", timeout=90)
            link.heal()
            enough.touch()
            await followed
        assert_whole(reader.events, emitted=found.emitted_in_all(task_id))
        assert set(reader.statuses[:-1]) == {200}, reader.failures
        assert reader.failures == []


async def test_a_short_partition_moves_nobody(tmp_path: Path, enough: Path):
    # Short is what is far below this: how soon readiness is red, and the test sees it, is for a busy machine to say.
    async with with_one_linked(tmp_path, REPRISE_OUTAGE_SECONDS="120") as (found, parted, link):
        task_id = await found.start_task("emit_many", count=300, interval_ms=10, until=str(enough))
        reader = Reader(parted.url, f"/tasks/{task_id}/events")
        async with following(reader) as followed:
            await reader.has(20)
            link.part()
            await until_red(parted)
            link.heal()
            enough.touch()
            await followed
        assert_whole(reader.events, emitted=found.emitted_in_all(task_id))
        assert reader.statuses == [200, 204]


async def until_red(server: Server) -> None:
    async def is_red() -> bool:
        return await server.health() == 503

    await wait_until(is_red, description="readiness is red")
