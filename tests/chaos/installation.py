"""All processes of a run and every way between them: Redis, replicas, workers, links, and a balancer if asked for.

Invariant: a process keeps its name, its port and its log across restarts, and nothing outlives `installed`. Decides
nothing about faults.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.cluster import Clustered
from tests.chaos.links import Link
from tests.chaos.plan import Size
from tests.chaos.sentinel import WithSentinels
from tests.chaos.topology import OneRedis, Topology
from tests.e2e.haproxy import run_haproxy
from tests.e2e.product import Process, Server, Worker, events_written_back
from tests.support.waiting import wait_until

LEASE_SECONDS = 3.0
HEARTBEAT_SECONDS = 2.0
SETTINGS: Mapping[str, str] = {
    "REPRISE_LEASE_SECONDS": str(LEASE_SECONDS),
    "REPRISE_SWEEP_SECONDS": "1",
    "REPRISE_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
    "REPRISE_MAX_STREAM_SECONDS": "15",
    "REPRISE_STALL_SECONDS": "8",
    "REPRISE_DRAIN_SECONDS": "2",
    "REPRISE_LOG_FORMAT": "json",
}
#: By the names that plans use. Each is given the names of all clients, and a folder.
_TOPOLOGIES: Mapping[str, Callable[[Sequence[str], Path], Topology]] = {
    "single": OneRedis,
    "sentinel": WithSentinels,
    "cluster": Clustered,
}
_BLIND = (sys.executable, "-m", "tests.chaos.blind_server")
#: What a task's function raised, as its script told it to.
_TASK_FAILED = re.compile(r'"message": "Task \S+ \(\S+\) failed: ')


@dataclass(frozen=True)
class Installation:
    topology: Topology
    servers: Sequence[Server]
    workers: Sequence[Worker]
    #: Every link, those to Redis and those to replicas, by the names that plans use.
    links: Mapping[str, Link]
    #: Where readers connect.
    ports: Sequence[int]

    @property
    def processes(self) -> dict[str, Process]:
        return {process.name: process for process in (*self.servers, *self.workers)}

    @property
    def events_written_back(self) -> int:
        """As workers say: what they kept, wherever Redis had lost something of a task's log."""
        return events_written_back(self.workers)

    def tracebacks(self) -> list[str]:
        """Where processes said that something of theirs broke."""
        return [
            f"{process.name}: {line[:3000]}"
            for process in self.processes.values()
            for line in process.text.splitlines()
            if "Traceback" in line and not _TASK_FAILED.search(line)
        ]


@asynccontextmanager
async def installed(
    size: Size,
    folder: Path,
    *,
    has_balancer: bool = False,
    is_blind: bool = False,
) -> AsyncGenerator[Installation]:
    """Start everything, with logs and data in `folder`; yield once all of it is ready."""
    server_names = [f"server{n}" for n in range(1, size.servers + 1)]
    worker_names = [f"worker{n}" for n in range(1, size.workers + 1)]
    topology = _TOPOLOGIES[size.topology]([*server_names, *worker_names], folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(topology.close)
        await topology.start()
        settings = {name: _settings(size, topology, name) for name in (*server_names, *worker_names)}
        servers = [Server(name, folder=folder, settings=settings[name]) for name in server_names]
        workers = [
            Worker(name, modules=["tests.chaos.tasks"], folder=folder, settings=settings[name]) for name in worker_names
        ]
        for server in servers if is_blind else []:
            server.program = _BLIND
        ways = {f"link:readers-{server.name}": Link(f"link:readers-{server.name}", server.port) for server in servers}
        for link in ways.values():
            stack.push_async_callback(link.close)
            await link.open()
        for process in (*servers, *workers):
            stack.push_async_callback(process.close)
        await asyncio.gather(*(process.start() for process in (*servers, *workers)))
        ports = [link.port for link in ways.values()]
        await asyncio.gather(*(server.ready() for server in servers), *map(_is_ready, workers))
        if has_balancer:
            balancer = await stack.enter_async_context(run_haproxy([f"127.0.0.1:{port}" for port in ports], folder))
            ports = [balancer.port]
        yield Installation(topology, servers, workers, {**topology.links, **ways}, ports)


async def _is_ready(worker: Worker) -> None:
    await wait_until(lambda: "is ready for" in worker.text, description=f"{worker.name} is ready", timeout=40)


def _settings(size: Size, topology: Topology, name: str) -> dict[str, str]:
    own = {"REPRISE_REDIS_URL": topology.url_for(name), "REPRISE_MAX_STREAM_EVENTS": str(size.max_events)}
    return {**SETTINGS, **own}
