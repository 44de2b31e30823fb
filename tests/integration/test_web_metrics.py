"""`GET /metrics` of a real server: what a scraper reads, and what it counts."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.web.metrics import Metrics
from tests.support.event_reader import reading
from tests.support.real_server import RealServer, real_server
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


async def open_streams(real: RealServer) -> float:
    response = await real.client.get("/metrics")
    assert response.status_code == 200, response.text
    (family,) = text_string_to_metric_families(response.text)
    assert (family.name, family.type) == ("reprise_open_streams", "gauge")
    (sample,) = family.samples
    assert sample.labels == {}
    return sample.value


async def test_readers_are_counted_while_they_read_and_no_longer(redis_url: str) -> None:
    async with real_server(redis_url) as real, AsyncExitStack() as readers:
        assert await open_streams(real) == 0
        for count in range(1, 4):
            await readers.enter_async_context(reading(real.client, "/stream/system"))
            assert await open_streams(real) == count
        await readers.aclose()

        async def all_gone() -> bool:
            return await open_streams(real) == 0

        await wait_until(all_gone, description="nobody is counted")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8;"),
    ],
)
async def test_a_scraper_gets_the_format_it_asks_for(redis_url: str, accept: str, content_type: str) -> None:
    async with real_server(redis_url) as real:
        response = await real.client.get("/metrics", headers={"accept": accept})
        # A newer scraper is told more: how names are escaped.
        assert f"{response.headers['content-type']};".startswith(content_type)
        assert response.headers["cache-control"] == "no-store"
        assert "\nreprise_open_streams 0" in response.text


async def test_a_server_without_redis_still_says_how_many_streams_it_carries() -> None:
    with RedisServer() as redis:
        async with real_server(redis.url) as real, reading(real.client, "/stream/system"):
            redis.kill()

            async def is_red() -> bool:
                return (await real.client.get("/health/ready")).status_code == 503

            await wait_until(is_red, description="the server is not ready")
            assert await open_streams(real) == 1


def test_two_applications_of_a_process_count_apart() -> None:
    counts = [Metrics(open_streams=lambda: 1), Metrics(open_streams=lambda: 2)]
    assert [each.registry.get_sample_value("reprise_open_streams") for each in counts] == [1, 2]
