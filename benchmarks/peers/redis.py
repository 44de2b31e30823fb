"""A Redis of a peer's own: alike for every peer, in memory, on a loopback port."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.processes import Program, free_port, listens, running, start
from server.dev.valkey import find_program

#: What differs from the defaults. Nothing is written to disk, because nobody's disk is measured; connections suffice
#: for one per subscriber, which the tutorial's design needs.
REDIS_OPTIONS: Final = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "no",
    "maxclients": "12000",
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
}


@dataclass(frozen=True, slots=True)
class Redis:
    """A running server."""

    program: Program
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


def find_redis() -> str | None:
    """Debian's redis-server, which every peer gets in a run that is published."""
    return shutil.which("redis-server")


@contextlib.contextmanager
def running_redis(folder: Path, *, cpus: Iterable[int] = ()) -> Generator[Redis]:
    """A server that is ended, and its data forgotten, afterwards."""
    port = free_port()
    options = [part for name, value in REDIS_OPTIONS.items() for part in (f"--{name}", value)]
    # Tests and inner parts are content with the embedded server.
    command = [find_redis() or find_program(), "--port", str(port), *options]
    program = start("redis", command, folder=folder, cpus=cpus)
    with running(program):
        program.wait_until(lambda: listens(port), what="listen")
        yield Redis(program, port)
