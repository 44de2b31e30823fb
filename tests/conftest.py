"""Fixtures for every test. A test gets a real Redis, never a stand-in, and leaves nothing behind in it.

`redis_server` is one server for each parallel test process; `redis_url` is its address, flushed. A test that
kills or freezes the server starts a `RedisServer` of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from server.streams.connections import AsyncClient, connect
from server.streams.keys import Keys
from tests.support.dealing import dealt
from tests.support.key_table import faults
from tests.support.redis_server import RedisServer
from tests.support.working import Bench

_END_TO_END = Path(__file__).parent / "e2e"


def pytest_configure(config: pytest.Config) -> None:
    """A shell starts its background jobs with SIGINT ignored, and whatever a test starts would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a parallel run, put those that wait beside those that compute: see `dealing`."""
    hands = getattr(config, "workerinput", {}).get("workercount", 1)
    if hands == 1:
        return
    waiting: dict[str, list[pytest.Item]] = {}
    others: list[pytest.Item] = []
    for item in items:
        if _END_TO_END in item.path.parents:
            mode = item.get_closest_marker("asyncio")
            is_shared = mode is not None and mode.kwargs.get("loop_scope") == "module"
            waiting.setdefault(item.path.name if is_shared else item.nodeid, []).append(item)
        else:
            others.append(item)
    items[:] = dealt(list(waiting.values()), others, hands=hands)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI runs, what a test needs has to be there: a skipped browser would look like a browser that works."""
    reporter = cast("Any", session.config.pluginmanager.get_plugin("terminalreporter"))
    skipped = cast("list[pytest.TestReport]", reporter.stats.get("skipped", []) if reporter else [])
    if os.environ.get("CI") and any("is not installed" in str(each.longrepr) for each in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def lasting_keys() -> set[str]:
    """Keys that this test may leave against docs/keys.md."""
    return set()


@pytest.fixture
def redis_url(redis_server: RedisServer, lasting_keys: set[str]) -> Iterator[str]:
    """The address of an empty Redis. Afterwards every key must be as docs/keys.md says: most have an expiry."""
    redis_server.flush()
    yield redis_server.url
    assert {name: reason for name, reason in faults(redis_server.url).items() if name not in lasting_keys} == {}


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    found = connect(redis_url, name="test")
    yield found
    await found.aclose()


@pytest.fixture
def enough(tmp_path: Path) -> Path:
    """Given to a task as `until`, it lasts until the test touches this: a fixed length may be over too soon."""
    return tmp_path / "enough"


@pytest.fixture
def bench(client: AsyncClient, keys: Keys) -> Bench:
    """Creates tasks and looks at what became of them."""
    return Bench(client, keys)
