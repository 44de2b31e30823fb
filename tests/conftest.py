"""Fixtures for every test. A test gets a real Redis, never a stand-in, and leaves nothing behind in it.

`redis_server` is one server for each parallel test process; `redis_url` is its address, flushed. A test that
kills or freezes the server starts a `RedisServer` of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from server.streams.connections import AsyncClient, connect
from server.streams.keys import Keys
from tests.support.redis_server import RedisServer
from tests.support.working import Bench

#: What stays in Redis for good: docs/keys.md says why.
_PERMANENT = ("reprise:index:", "reprise:{queue.")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def lasting_keys() -> set[str]:
    """Keys that this test may leave without an expiry, beside the permanent ones."""
    return set()


@pytest.fixture
def redis_url(redis_server: RedisServer, lasting_keys: set[str]) -> Iterator[str]:
    """The address of an empty Redis. Afterwards every key that is not permanent must have an expiry."""
    redis_server.flush()
    yield redis_server.url
    assert _keys_without_expiry(redis_server.url) <= lasting_keys


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    found = connect(redis_url, name="test")
    yield found
    await found.aclose()


@pytest.fixture
def bench(client: AsyncClient, keys: Keys) -> Bench:
    """Creates tasks and looks at what became of them."""
    return Bench(client, keys)


def _keys_without_expiry(url: str) -> set[str]:
    with Redis.from_url(url) as client:  # pyright: ignore[reportUnknownMemberType]
        names: list[str] = [name.decode() for name in client.scan_iter(count=1000)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return {name for name in names if not name.startswith(_PERMANENT) and client.ttl(name) == -1}
