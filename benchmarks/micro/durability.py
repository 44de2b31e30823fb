"""What REPRISE_DURABILITY costs: the same writers with each of its values, on a master with a replica and a file.

One Redis for all, so that only the wait differs; the file is synced every second, and once more with every write. What
is in the log is counted afterwards. Machines differ in their disks and networks: trust the ratios, and measure yours.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import tempfile
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import Any, Final

from rich.console import Console
from rich.progress import track

from benchmarks.load.transcript import Broken
from benchmarks.micro.internals import claimed_writer
from benchmarks.peers.processes import Unusable, free_port, listens, running, start
from server.dev.valkey import find_program
from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient, connect, execute
from server.streams.durability import Durability
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.names import task_stream

_ROUNDS: Final = 3
_ONE_BY_ONE: Final = 300
_UNPACED: Final = 20_000
_WRITERS: Final = 100
_EACH: Final = 20
_LINK_SECONDS: Final = 20.0
_DATA: Final = '{"text":"' + "x" * 140 + '"}'


@dataclass(frozen=True, slots=True)
class _Way:
    """A value of the setting, and how Redis syncs its file meanwhile."""

    durability: Durability
    appendfsync: str

    @property
    def name(self) -> str:
        return f"`{self.durability.value}`, `appendfsync {self.appendfsync}`"


_WAYS: Final = (
    _Way(Durability.FAST, "everysec"),
    _Way(Durability.REPLICATED, "everysec"),
    _Way(Durability.FSYNC, "everysec"),
    _Way(Durability.FAST, "always"),
    _Way(Durability.FSYNC, "always"),
)


@dataclass(frozen=True, slots=True)
class _Figures:
    #: From `emit` until the event counts as stored, one after the other.
    one_ms: float
    one_p99_ms: float
    #: Of one writer that never waits for its own.
    unpaced_per_second: float
    #: Of a hundred writers side by side, each of which waits for each of its events.
    waiting_per_second: float


def measure_durability(*, console: Console) -> str:
    """Measure each way and return a Markdown table, in figures and as ratios to the first line."""
    found: dict[_Way, list[_Figures]] = {way: [] for way in _WAYS}
    rounds = [way for _ in range(_ROUNDS) for way in _WAYS]
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as folder, _replicated(Path(folder)) as url:
        for way in track(rounds, description="Measuring", console=console):
            found[way].append(asyncio.run(_measure(url, way)))
    base = _medians(found[_WAYS[0]])
    head = (
        f"Python {platform.python_version()}, {platform.machine()}, median of {_ROUNDS} rounds; "
        "in brackets: times the first line\n\n"
        "| | stored after, ms | p99, ms | one writer, events/s | 100 that wait for each event, events/s |\n"
        "|---|---:|---:|---:|---:|\n"
    )
    return head + "\n".join(_row(way, _medians(found[way]), base) for way in _WAYS) + "\n"


def _row(way: _Way, figures: _Figures, base: _Figures) -> str:
    return (
        f"| {way.name} | {figures.one_ms:.2f} ({figures.one_ms / base.one_ms:.1f}) | {figures.one_p99_ms:.1f} "
        f"| {figures.unpaced_per_second:,.0f} ({figures.unpaced_per_second / base.unpaced_per_second:.2f}) "
        f"| {figures.waiting_per_second:,.0f} ({figures.waiting_per_second / base.waiting_per_second:.2f}) |"
    )


def _medians(rounds: list[_Figures]) -> _Figures:
    return _Figures(
        median(each.one_ms for each in rounds),
        median(each.one_p99_ms for each in rounds),
        median(each.unpaced_per_second for each in rounds),
        median(each.waiting_per_second for each in rounds),
    )


async def _measure(url: str, way: _Way) -> _Figures:
    client, keys = connect(url, name="benchmark"), Keys()
    await execute(client, "FLUSHALL")
    await execute(client, "CONFIG", "SET", "appendfsync", way.appendfsync)
    async with _lane(client, way) as lane:
        times = await _one_by_one(client, keys, lane)
        unpaced = await _unpaced(client, keys, lane)
        waiting = await _waiting(client, keys, lane)
    await client.aclose()
    return _Figures(median(times) * 1000, sorted(times)[int(len(times) * 0.99)] * 1000, unpaced, waiting)


async def _one_by_one(client: AsyncClient, keys: Keys, lane: Lane) -> list[float]:
    times: list[float] = []
    async with claimed_writer(client, keys, lane=lane) as (writer, task_id):
        for _ in range(_ONE_BY_ONE):
            began = perf_counter()
            await writer.emit(Draft("token", _DATA))
            await writer.flush()
            times.append(perf_counter() - began)
        await _count(client, keys, task_id, _ONE_BY_ONE)
    return times


async def _unpaced(client: AsyncClient, keys: Keys, lane: Lane) -> float:
    async with claimed_writer(client, keys, lane=lane) as (writer, task_id):
        began = perf_counter()
        for _ in range(_UNPACED):
            await writer.emit(Draft("token", _DATA))
        await writer.flush()
        seconds = perf_counter() - began
        await _count(client, keys, task_id, _UNPACED)
    return _UNPACED / seconds


async def _waiting(client: AsyncClient, keys: Keys, lane: Lane) -> float:
    async with contextlib.AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(claimed_writer(client, keys, lane=lane)) for _ in range(_WRITERS)]

        async def write(writer: Any) -> None:
            for _ in range(_EACH):
                await writer.emit(Draft("token", _DATA))
                await writer.flush()

        began = perf_counter()
        await asyncio.gather(*(write(writer) for writer, _ in writers))
        seconds = perf_counter() - began
        for _, task_id in writers:
            await _count(client, keys, task_id, _EACH)
    return _WRITERS * _EACH / seconds


async def _count(client: AsyncClient, keys: Keys, task_id: str, events: int) -> None:
    stored: int = await execute(client, "XLEN", keys.log(task_stream(task_id)))
    if stored != events + 1:
        raise Broken(f"The log holds {stored} events instead of {events + 1}: the figures mean nothing.")


@contextlib.asynccontextmanager
async def _lane(client: AsyncClient, way: _Way) -> AsyncGenerator[Lane]:
    lane = Lane(partial(open_bulk, client), durability=way.durability)
    try:
        yield lane
    finally:
        await lane.aclose()


@contextlib.contextmanager
def _replicated(folder: Path) -> Generator[str]:
    """The address of a master that has a replica and an append-only file."""
    ports = {name: free_port() for name in ("master", "replica")}
    options = {"master": ["--appendonly", "yes"], "replica": ["--replicaof", f"127.0.0.1 {ports['master']}"]}
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            home = folder / name
            home.mkdir()
            command = [find_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options[name]]
            program = stack.enter_context(running(start(name, command, folder=home)))
            program.wait_until(lambda port=port: listens(port), what="listen")
        url = f"redis://127.0.0.1:{ports['master']}/0"
        asyncio.run(_until_linked(url))
        yield url


async def _until_linked(url: str) -> None:
    client = connect(url, name="benchmark")
    deadline = monotonic() + _LINK_SECONDS
    while await execute(client, "WAIT", 1, 100) < 1:
        if monotonic() > deadline:
            raise Unusable(f"The replica did not follow its master within {_LINK_SECONDS:g} s.")
    await client.aclose()
