"""The health check of a worker's container, which has no port to ask."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.e2e.product import ROOT, product
from tests.support.redis_server import RedisServer


async def test_health_of_a_worker_is_told_by_what_it_says_in_redis(tmp_path: Path):
    async with product(tmp_path) as found:
        assert await _health(found.redis.url, name=found.workers[0].name) == (0, "")
        code, said = await _health(found.redis.url, name="nobody")
    assert code == 1
    assert "'nobody'" in said


async def test_health_of_a_worker_without_redis_is_bad_and_says_why():
    with RedisServer() as redis:
        url = redis.url
    code, said = await _health(url, name="any")
    assert code == 1
    assert "Redis" in said


async def _health(redis_url: str, *, name: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.health"),
        env={"PYTHONPATH": str(ROOT), "REPRISE_REDIS_URL": redis_url, "REPRISE_NAME": name},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    return process.returncode or 0, errors.decode()
