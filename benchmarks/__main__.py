"""`make bench`: what the inner parts cost, on this machine, now.

Pure parts are timed alone, in process time. The writer is timed against a real server of its own on a unix socket, and
the log is counted afterwards: a run that lost or doubled an event fails. Figures are for comparing two versions on one
machine in one sitting; they say nothing about another.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Final

from rich.console import Console
from rich.progress import track

from benchmarks.redis_process import running_redis
from server.fanout.bell import parse_ring
from server.fanout.frames import event_frame
from server.fanout.window import Window
from server.streams import calls
from server.streams.announcements import Announcer
from server.streams.calls import Lifetimes
from server.streams.connections import connect, execute, run
from server.streams.event import Draft, Event
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.lease import Lease, boot_seconds
from server.streams.log import Log
from server.streams.names import task_stream
from server.streams.records import Status
from server.streams.tasks import NewTask, TaskStore
from server.streams.writer import StreamWriter, WriterOptions

_ROUNDS: Final = 5
_EVENTS: Final = 20_000
_LEASE_MS: Final = 60_000
_DATA: Final = '{"text":"' + "x" * 140 + '"}'
_TOKEN: Final = Event(EventId(1_795_343_970_123, 57), "token", _DATA)
_RING: Final = b"1795343970123-57 - - 8\n" + b"".join(
    b"token 1795343970123 0 %d\n%s" % (len(_DATA), _DATA.encode()) for _ in range(8)
)

Measurement = Callable[[], float]


def frame() -> float:
    """Microseconds to encode one event."""
    return _each(lambda: event_frame(_TOKEN))


def ring() -> float:
    """Microseconds per event to read a ring of eight."""
    return _each(lambda: parse_ring(_RING)) / 8


def window() -> float:
    """Microseconds to append one frame to a full window and serve the one behind the cursor."""
    held = Window(262_144)
    held.start(EventId(1, 0))
    encoded = event_frame(_TOKEN)

    def step() -> None:
        top = held.top or EventId(1, 0)
        held.append(top.next(), encoded)
        held.after(top)

    return _each(step)


def append() -> float:
    """Events per second through one writer into Redis, each checked to be in the log once."""
    with running_redis() as url:
        return asyncio.run(_append(url))


async def _append(url: str) -> float:
    client, keys, lifetimes = connect(url, name="benchmark"), Keys(), Lifetimes()
    log = Log(client, keys, lifetimes=lifetimes, max_events=0)
    store = TaskStore(client, keys, Announcer(log), lifetimes=lifetimes, may_judge_expired=lambda: True)
    task = await store.create(NewTask("benchmark", {}))
    asked_at = boot_seconds()
    claim = calls.claim(
        keys, task.id, nonce="benchmark", worker="benchmark", lease_ms=_LEASE_MS, entropy=0, lifetimes=lifetimes,
        may_take_expired=False,
    )  # fmt: skip
    claimed = await run(client, claim)
    if claimed.record is None:
        raise SystemExit(f"The benchmark's own task was not claimed: {claimed.outcome!r}.")
    lease = Lease(_LEASE_MS / 1000, asked_at=asked_at)
    options = WriterOptions(lifetimes, max_events=0, lease_ms=_LEASE_MS)
    began = perf_counter()
    async with StreamWriter(client, keys, claimed.record, nonce="benchmark", lease=lease, options=options) as writer:
        for _ in range(_EVENTS):
            await writer.emit(Draft("token", _DATA))
        await writer.finish(Status.COMPLETED, "{}")
    seconds = perf_counter() - began
    stored: int = await execute(client, "XLEN", keys.log(task_stream(task.id)))
    await client.aclose()
    if stored != _EVENTS + 2:
        raise SystemExit(f"The log holds {stored} events instead of {_EVENTS + 2}: the figures mean nothing.")
    return _EVENTS / seconds


def _each(step: Callable[[], object]) -> float:
    began = process_time()
    for _ in range(_EVENTS):
        step()
    return (process_time() - began) / _EVENTS * 1e6


_MEASUREMENTS: Final[tuple[tuple[str, str, Measurement], ...]] = (
    ("encode a frame", "µs", frame),
    ("read a ring, per event", "µs", ring),
    ("append to a window and serve", "µs", window),
    ("one writer into Redis", "events/s", append),
)


def main() -> None:
    console = Console(stderr=True)
    rows: list[str] = []
    for name, unit, measure in track(_MEASUREMENTS, description="Measuring", console=console):
        found = [measure() for _ in range(_ROUNDS)]
        rows.append(f"| {name} | {median(found):,.2f} | {min(found):,.2f} | {max(found):,.2f} | {unit} |")
    sys.stdout.write(f"\nPython {platform.python_version()}, {platform.machine()}, median of {_ROUNDS} rounds\n\n")
    sys.stdout.write("| part | median | least | most | |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
