"""What a scenario sees of a contender, and where it is put."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from benchmarks.load.spec import Emission


class Design(Enum):
    """A contender; the value is its name on the command line and in the results."""

    REPRISE = "reprise"
    NCHAN = "nchan"
    TUTORIAL = "tutorial"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a peer runs."""

    folder: Path
    #: Processors of the server, of what writes, and of everything else; empty: wherever the kernel likes.
    server_cpus: tuple[int, ...] = ()
    writer_cpus: tuple[int, ...] = ()
    other_cpus: tuple[int, ...] = ()


class Publication(Protocol):
    """Streams that are ready to be subscribed to and written."""

    #: Where each stream is read.
    paths: tuple[str, ...]

    def go(self, at_ns: int) -> None:
        """Write the events from this monotonic time on."""
        ...

    def wait(self, within_seconds: float) -> None:
        """Return once all events are where a subscriber can get them."""
        ...


class Peer(Protocol):
    """A running contender. A context manager made it; leaving that ends it."""

    host: str
    port: int
    #: What ends a line of its event streams.
    line_end: bytes

    def prepare(self, emission: Emission) -> Publication:
        """Make streams. Called once."""
        ...

    def accounts(self) -> dict[str, list[int]]:
        """The processes by what they do: `server`, `redis`, `writers`."""
        ...


class Replaceable(Peer, Protocol):
    """A contender whose server can be lost, because nobody needs it for writing."""

    def kill_server(self) -> int:
        """kill -9; returns when, in monotonic nanoseconds."""
        ...

    def restart_server(self) -> None:
        """A fresh server process on the same port, started at once and not waited for."""
        ...
