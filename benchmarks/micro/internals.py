"""The product's inner parts, each as one figure. With `seeking` and `durability` the only module that knows them.

Pure parts are timed alone, in process time. The writer and the fan-out use a real Redis; the log, or what subscribers
got, is counted afterwards, and a run that lost or doubled an event fails.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

from benchmarks.load.transcript import Broken
from benchmarks.peers.redis import running_redis
from server.fanout import Hub, HubOptions, Start
from server.fanout.bell import parse_ring
from server.fanout.frames import event_frame
from server.fanout.window import Window
from server.streams import calls
from server.streams.announcements import Announcer
from server.streams.calls import Lifetimes
from server.streams.connections import AsyncClient, connect, execute, run
from server.streams.doorbell import Doorbells
from server.streams.event import Draft, Event
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lease import Lease, boot_seconds
from server.streams.log import Log
from server.streams.names import task_stream
from server.streams.records import Status
from server.streams.tasks import NewTask, TaskStore
from server.streams.writer import StreamWriter, WriterOptions

_EVENTS: Final = 20_000
_SUBSCRIBERS: Final = 1000
_DELIVERED_EVENTS: Final = 200
_LEASE_MS: Final = 60_000
_DATA: Final = '{"text":"' + "x" * 140 + '"}'
_TOKEN: Final = Event(EventId(1_795_343_970_123, 57), "token", _DATA)
_RING: Final = b"1795343970123-57 - - 8\n" + b"".join(
    b"token 1795343970123 0 %d\n%s" % (len(_DATA), _DATA.encode()) for _ in range(8)
)


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
    with _redis() as url:
        return asyncio.run(_append(url))


def fan_out() -> float:
    """Microseconds of CPU, bell to frames, for each event of each subscriber; one event at a time."""
    with _redis() as url:
        return asyncio.run(_fan_out(url))


async def _append(url: str) -> float:
    client, keys = connect(url, name="benchmark"), Keys()
    began = perf_counter()
    async with claimed_writer(client, keys) as (writer, task_id):
        for _ in range(_EVENTS):
            await writer.emit(Draft("token", _DATA))
        await writer.finish(Status.COMPLETED, "{}")
    seconds = perf_counter() - began
    stored: int = await execute(client, "XLEN", keys.log(task_stream(task_id)))
    await client.aclose()
    if stored != _EVENTS + 2:
        raise Broken(f"The log holds {stored} events instead of {_EVENTS + 2}: the figures mean nothing.")
    return _EVENTS / seconds


async def _fan_out(url: str) -> float:
    client, bells, keys = connect(url, name="benchmark"), connect(url, name="bells", socket_timeout=None), Keys()
    log = Log(client, keys, lifetimes=Lifetimes(), max_events=0)
    hub = Hub(log, Doorbells(bells, home=keys.bell("home.benchmark")), options=HubOptions())
    got: Counter[str] = Counter()
    is_served = asyncio.Event()

    async def read(stream: str) -> None:
        subscription = await hub.subscribe(stream, Start(at="latest"))
        async for block in subscription.frames():
            got["token"] += block.count(b"event: token\n")
            if got["token"] % _SUBSCRIBERS == 0:
                is_served.set()

    async with asyncio.TaskGroup() as group, claimed_writer(client, keys) as (writer, task_id):
        stream = task_stream(task_id)
        background = [group.create_task(hub._doorbells.run())]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        background += [group.create_task(read(stream)) for _ in range(_SUBSCRIBERS)]
        while hub.subscribers < _SUBSCRIBERS:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        began = process_time()
        for _ in range(_DELIVERED_EVENTS):
            is_served.clear()
            await writer.emit(Draft("token", _DATA))
            await is_served.wait()
        spent = process_time() - began
        for each in background:
            each.cancel()
    await client.aclose()
    await bells.aclose()
    if got.total() != _SUBSCRIBERS * _DELIVERED_EVENTS:
        raise Broken(f"Subscribers got {got.total()} events instead of {_SUBSCRIBERS * _DELIVERED_EVENTS}.")
    return spent / got.total() * 1e6


@asynccontextmanager
async def claimed_writer(
    client: AsyncClient, keys: Keys, *, lane: Lane | None = None
) -> AsyncGenerator[tuple[StreamWriter, str]]:
    """A writer that has claimed a task of its own."""
    lifetimes = Lifetimes()
    log = Log(client, keys, lifetimes=lifetimes, max_events=0)
    store = TaskStore(client, keys, Announcer(log), lifetimes=lifetimes, may_judge_expired=lambda: True)
    task = await store.create(NewTask("benchmark", {}))
    asked_at = boot_seconds()
    claim = calls.claim(
        keys,
        task.id,
        nonce="benchmark",
        worker="benchmark",
        lease_ms=_LEASE_MS,
        entropy=0,
        lifetimes=lifetimes,
        may_take_expired=False,
    )
    claimed = await run(client, claim)
    if claimed.record is None:
        raise Broken(f"The benchmark's own task was not claimed: {claimed.outcome!r}.")
    lease = Lease(_LEASE_MS / 1000, asked_at=asked_at)
    options = WriterOptions(lifetimes, max_events=0, lease_ms=_LEASE_MS)
    async with StreamWriter(
        client, keys, claimed.record, nonce="benchmark", lease=lease, options=options, lane=lane
    ) as writer:
        yield writer, task.id


@contextmanager
def _redis() -> Generator[str]:
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as folder, running_redis(Path(folder)) as redis:
        yield redis.url


def _each(step: Callable[[], object]) -> float:
    began = process_time()
    for _ in range(_EVENTS):
        step()
    return (process_time() - began) / _EVENTS * 1e6
