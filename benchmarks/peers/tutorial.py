"""The design that tutorials show, as a peer: `tutorial_app` under uvicorn, and a writer that calls XADD."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

from benchmarks.peers.peer import Site
from benchmarks.peers.processes import Program, start
from benchmarks.peers.published import PublishedTo
from benchmarks.peers.redis import running_redis

_ROOT: Final = Path(__file__).parents[2]


class Tutorial(PublishedTo):
    """The running application."""

    line_end = b"\r\n"
    wire = "redis"
    written_as = "{}"
    read_as = "/events/{}"

    @property
    def write_port(self) -> int:
        return self.redis.port

    def start(self) -> Program:
        options = ["--port", str(self.port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return start(
            "tutorial",
            [sys.executable, "-m", "uvicorn", "benchmarks.peers.tutorial_app:app", *options],
            folder=self.site.folder,
            environment={"TUTORIAL_REDIS_URL": self.redis.url, "PYTHONPATH": str(_ROOT)},
            cpus=self.site.server_cpus,
        )

    def kill_server(self) -> int:
        return self.server.kill()

    def restart_server(self) -> None:
        self.server = self.launch()


@contextlib.contextmanager
def running_tutorial(site: Site) -> Generator[Tutorial]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(site.folder, cpus=site.other_cpus))
        yield Tutorial(site, redis, stack)
