"""The server that schedules run against: one for each parallel test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.world import Server
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def model_server() -> Iterator[Server]:
    # Not the shared fixture: schedules empty the server, and change what it says of itself.
    with RedisServer() as process:
        server = Server.connect(process.url)
        yield server
        server.close()
