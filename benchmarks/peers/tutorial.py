"""The design that tutorials show, as a peer: `tutorial_app` under uvicorn, and a writer that calls XADD."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

from benchmarks.load.spec import Emission, PublishSpec
from benchmarks.peers.peer import PublisherPublication, Site, running_publisher
from benchmarks.peers.processes import Program, free_port, listens, running, start
from benchmarks.peers.redis import Redis, running_redis

_ROOT: Final = Path(__file__).parents[2]
_HOST: Final = "127.0.0.1"


class Tutorial:
    """The running application."""

    host = _HOST
    line_end = b"\r\n"

    def __init__(self, site: Site, redis: Redis, stack: contextlib.ExitStack) -> None:
        self._site = site
        self._redis = redis
        self._stack = stack
        self.port = free_port()
        self._publishers: list[int] = []
        self._server = self._start()
        self._server.wait_until(lambda: listens(self.port), what="listen")

    def prepare(self, emission: Emission) -> PublisherPublication:
        names = tuple(f"stream-{index}" for index in range(emission.streams))
        spec = PublishSpec(host=_HOST, port=self._redis.port, wire="redis", targets=names, emission=emission)
        publisher = self._stack.enter_context(running_publisher(spec))
        self._publishers.append(publisher.pid)
        return PublisherPublication(publisher, tuple(f"/events/{each}" for each in names))

    def accounts(self) -> dict[str, list[int]]:
        return {"server": [self._server.pid], "redis": [self._redis.program.pid], "writers": self._publishers}

    def kill_server(self) -> int:
        return self._server.kill()

    def restart_server(self) -> None:
        self._server = self._start()

    def _start(self) -> Program:
        options = ["--port", str(self.port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        program = start(
            "tutorial",
            [sys.executable, "-m", "uvicorn", "benchmarks.peers.tutorial_app:app", *options],
            folder=self._site.folder,
            environment={"TUTORIAL_REDIS_URL": self._redis.url, "PYTHONPATH": str(_ROOT)},
            cpus=self._site.server_cpus,
        )
        self._stack.enter_context(running(program))
        return program


@contextlib.contextmanager
def running_tutorial(site: Site) -> Generator[Tutorial]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(site.folder, cpus=site.other_cpus))
        yield Tutorial(site, redis, stack)
