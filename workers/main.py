"""The worker process: what a worker is made of, and the signals that end it.

The one place that builds the connections of a worker. SIGTERM and SIGINT drain; a second one hands back at once, a
third ends the process where it stands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import uvloop

from server.streams.announcements import Announcer
from server.streams.calls import Lifetimes
from server.streams.connections import connect, connect_sync, has_tls
from server.streams.dead_letters import DeadLetters
from server.streams.doorbell import Doorbells
from server.streams.keys import Keys
from server.streams.lanes import open_lane
from server.streams.log import Log
from server.streams.ready import ReadyQueue
from server.streams.registry import Registry
from server.streams.tasks import TaskStore
from server.streams.writer import WriterOptions
from workers.attempt import Shared
from workers.definition import TaskDefinition
from workers.loading import load_tasks
from workers.renewal import LeaseKeeper
from workers.settings import WorkerSettings
from workers.worker import BLOCK_MS, Worker, WorkerOptions

_log = logging.getLogger(__name__)

_CLIENT_NAME: Final = "reprise-worker"
#: A blocking fetch must be answered by Redis, not cut off by the socket's timeout.
_BLOCKING_TIMEOUT_SECONDS: Final = BLOCK_MS / 1000 + 5
#: They had their grace when they were told to stop; this is for those that end as soon as they are cancelled.
_LEFTOVERS_SECONDS: Final = 1.0


def run_worker(settings: WorkerSettings, modules: list[str]) -> int:
    """Run a worker until it is told to stop; returns the exit code. Raises `CannotStart`."""
    definitions = load_tasks(modules)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, definitions))
    return 0


async def _serve(settings: WorkerSettings, definitions: Mapping[str, TaskDefinition]) -> None:
    async with open_worker(settings, definitions) as worker:
        _heed_signals(worker)
        await worker.run()
    await _end_leftovers()


@asynccontextmanager
async def open_worker(settings: WorkerSettings, definitions: Mapping[str, TaskDefinition]) -> AsyncGenerator[Worker]:
    """A worker with its connections; nothing is dialled before it runs."""
    url = settings.redis_url.get_secret_value()
    name = f"{settings.name or socket.gethostname()}-{secrets.token_hex(4)}"
    keys = Keys(settings.prefix)
    commands = connect(url, name=_CLIENT_NAME)
    blocking = connect(
        url, name=f"{_CLIENT_NAME}-fetch", socket_timeout=_BLOCKING_TIMEOUT_SECONDS, tells_of_moves=False
    )
    bells = connect(url, name=f"{_CLIENT_NAME}-doorbells", socket_timeout=None, tells_of_moves=False)
    doorbells = Doorbells(bells, home=keys.bell(f"home.{secrets.token_hex(8)}"))
    lifetimes = Lifetimes.lasting(
        retention_seconds=settings.retention_seconds,
        result_seconds=settings.result_seconds,
        dead_letter_seconds=settings.dead_letter_seconds,
    )
    levels = _levels(settings.queues, definitions)
    log = Log(
        commands,
        keys,
        lifetimes=lifetimes,
        max_events=settings.max_stream_events,
        max_bytes=int(settings.max_stream_bytes),
    )
    announcer = Announcer(log)
    lane = open_lane(commands, delay_seconds=settings.append_delay_ms / 1000, durability=settings.durability)
    # This store cancels and reaps nothing, so it never has to judge a lease.
    store = TaskStore(commands, keys, announcer, lifetimes=lifetimes, may_judge_expired=lambda: False)
    shared = Shared(
        client=commands,
        keys=keys,
        store=store,
        dead_letters=DeadLetters(commands, keys, store, lifetimes=lifetimes),
        announcer=announcer,
        queue=ReadyQueue(
            commands,
            blocking,
            keys,
            levels=[[keys.ready(queue, each) for queue in level for each in definitions] for level in levels],
            consumer=name,
        ),
        keeper=LeaseKeeper(
            connect_sync(url, name=f"{_CLIENT_NAME}-leases"),
            keys,
            consumer=name,
            lease_ms=_lease_ms(settings),
            lifetimes=lifetimes,
        ),
        options=_writer_options(settings, lifetimes),
        lane=lane,
        max_event_bytes=int(settings.max_event_bytes),
        draining=asyncio.Event(),
    )
    try:
        options = _options(settings, name, levels)
        yield Worker(options, shared, definitions, doorbells=doorbells, registry=Registry(commands, keys))
    finally:
        await lane.aclose()
        for client in (commands, blocking, bells):
            await client.aclose()


def _lease_ms(settings: WorkerSettings) -> int:
    return int(settings.lease_seconds * 1000)


def _writer_options(settings: WorkerSettings, lifetimes: Lifetimes) -> WriterOptions:
    return WriterOptions(
        lifetimes,
        max_events=settings.max_stream_events,
        lease_ms=_lease_ms(settings),
        max_bytes=int(settings.max_stream_bytes),
        patience_seconds=settings.write_timeout_seconds,
    )


def _options(settings: WorkerSettings, name: str, levels: Sequence[Sequence[str]]) -> WorkerOptions:
    url = settings.redis_url.get_secret_value()
    return WorkerOptions(
        name=name,
        queues=tuple(queue for level in levels for queue in level),
        concurrency=settings.concurrency,
        lease_seconds=settings.lease_seconds,
        drain_seconds=settings.drain_seconds,
        durability=settings.durability,
        has_tls=has_tls(url),
        hint=_hint(url),
    )


def _hint(url: str) -> str:
    """What a person may not know who starts a worker by hand."""
    where = "REPRISE_REDIS_URL says where it is"
    if not url.startswith(("redis://", "unix://")):
        return f"{where}."
    return f"{where}; with `reprise dev` running, set it to the URL that it printed."


def _levels(queues: Sequence[str], definitions: Mapping[str, TaskDefinition]) -> list[tuple[str, ...]]:
    """Queues by urgency: one by one as they are named, or all those that its task types may use, alike."""
    if queues:
        return [(queue,) for queue in queues]
    return [tuple(dict.fromkeys(["default", *sorted(each.policy.queue for each in definitions.values())]))]


def _heed_signals(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    heard = 0

    def hear() -> None:
        nonlocal heard
        heard += 1
        if heard > 2:
            os._exit(1)
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)


async def _end_leftovers() -> None:
    """Leave even if a task function ignores its cancellation: the loop's own end would wait for it for ever."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for each in left:
        each.cancel()
    if left:
        _, left = await asyncio.wait(left, timeout=_LEFTOVERS_SECONDS)
    if left:
        _log.warning("Leaving %d function(s) behind that ignore their cancellation", len(left))
        logging.shutdown()
        os._exit(0)
