"""What peers have in common that a publisher process writes to: a port, a Redis, a program, and who publishes."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import ClassVar

from benchmarks.load import child
from benchmarks.load.spec import Emission, Go, Published, PublishSpec, Ready
from benchmarks.peers.peer import Site
from benchmarks.peers.processes import Program, free_port, listens, running
from benchmarks.peers.redis import Redis


class PublisherPublication:
    """Streams that a publisher process writes."""

    def __init__(self, publisher: child.Child, paths: tuple[str, ...]) -> None:
        self.paths = paths
        self._publisher = publisher

    def go(self, at_ns: int) -> None:
        self._publisher.tell(Go(at_ns))

    def wait(self, within_seconds: float) -> None:
        self._publisher.hear(Published, within_seconds=within_seconds)


class PublishedTo(ABC):
    """A running peer; subclasses say how it is started and addressed."""

    host: str = "127.0.0.1"
    line_end: ClassVar[bytes]
    #: What the publisher speaks, to which port it speaks it, and how it names a stream there.
    wire: ClassVar[str]
    written_as: ClassVar[str]
    read_as: ClassVar[str]

    def __init__(self, site: Site, redis: Redis, stack: contextlib.ExitStack) -> None:
        self.site = site
        self.redis = redis
        self.port = free_port()
        self._stack = stack
        self._publishers: list[int] = []
        self.server = self.launch()
        self.server.wait_until(lambda: listens(self.port), what="listen")

    @property
    @abstractmethod
    def write_port(self) -> int: ...

    @abstractmethod
    def start(self) -> Program:
        """Start the server on `port`."""

    def launch(self) -> Program:
        """Start the server, and have it ended with everything else."""
        program = self.start()
        self._stack.enter_context(running(program))
        return program

    def prepare(self, emission: Emission) -> PublisherPublication:
        names = [f"stream-{index}" for index in range(emission.streams)]
        spec = PublishSpec(
            host=self.host,
            port=self.write_port,
            wire=self.wire,
            targets=tuple(self.written_as.format(each) for each in names),
            emission=emission,
        )
        publisher = self._stack.enter_context(child.running("benchmarks.load.publishing", spec))
        publisher.hear(Ready, within_seconds=20)
        self._publishers.append(publisher.pid)
        return PublisherPublication(publisher, tuple(self.read_as.format(each) for each in names))

    def accounts(self) -> dict[str, list[int]]:
        return {"server": [self.server.pid], "redis": [self.redis.program.pid], "writers": self._publishers}
