"""Addresses of Redis that lead nowhere, or to the wrong place: refused at the start, or told without a secret."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.streams.connections import connect, execute
from server.streams.errors import LogUnavailable
from server.streams.suitability import examine
from tests.e2e.dev_run import environment
from tests.support.redis_node import RedisNode
from tests.support.redis_server import RedisServer


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def sentinel() -> Iterator[RedisNode]:
    """One that watches over nobody."""
    node = RedisNode(words=["--sentinel"])
    node.start()
    yield node
    node.close()


@pytest.mark.parametrize("module", ["server", "workers"])
@pytest.mark.parametrize(
    "url", ["redis://:hush@127.0.0.1:1/0?ssl_ca_certs=/ca.pem", "rediss://:hush@127.0.0.1:1?ssl_ca_certs=/absent"]
)
def test_an_option_that_cannot_work_ends_the_start_with_2_and_one_sentence(module: str, url: str, tmp_path: Path):
    env = environment({"REPRISE_REDIS_URL": url, "PYTHONPATH": str(Path(__file__).parents[2])})
    ended = subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("reprise: REPRISE_REDIS_URL ")
    assert "ssl_ca_certs" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "hush" not in ended.stderr


async def test_a_database_that_is_not_there_is_told_with_its_setting(own_redis: RedisServer):
    client = connect(f"{own_redis.url}?db=99", name="test")
    with pytest.raises(LogUnavailable, match="must be below its setting 'databases'") as refused:
        await execute(client, "PING")
    assert "bug" not in str(refused.value)
    await client.aclose()


async def test_a_sentinel_in_the_place_of_redis_is_told_with_the_form_that_it_needs(sentinel: RedisNode):
    client = connect(f"redis://{sentinel.address}", name="test")
    (sentence,) = (await examine(client)).refusals
    assert sentence.endswith("Name it as redis+sentinel://host:26379/name-of-the-master in REPRISE_REDIS_URL.")
    with pytest.raises(LogUnavailable, match=r"A Sentinel has none of them: name it as redis\+sentinel://"):
        await execute(client, "XLEN", "key")
    await client.aclose()
