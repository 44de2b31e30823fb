"""The composition root: builds everything a server process has from its settings, runs it, and ends it.

Nothing is dialled before the lifespan begins, and the lifespan does not wait for Redis: a server starts without it,
says so, is not ready, and recovers by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Final

from starlette.applications import Starlette

from server.fanout import Hub, HubOptions
from server.fanout.following import Following
from server.settings import ServerSettings
from server.streams.announcements import Announcer
from server.streams.calls import Lifetimes
from server.streams.cancelling import cancel_all
from server.streams.connections import AsyncClient, connect, execute, probe_writes
from server.streams.dead_letters import DeadLetters
from server.streams.doorbell import Doorbells
from server.streams.durability import Durability
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.open_streams import OpenStreams
from server.streams.outage import Outage
from server.streams.presence import Presence
from server.streams.reaper import Reaper
from server.streams.registry import Registry
from server.streams.suitability import examine
from server.streams.tasks import TaskStore
from server.web.metrics import Metrics
from server.web.origins import Application
from server.web.readiness import Readiness
from server.web.refusals import EXCEPTION_HANDLERS, Refusals
from server.web.routes import routes
from server.web.state import Limits, State

_logger = logging.getLogger(__name__)

#: Quick at first, for a Redis that starts together with us; then as often as somebody who mends it would look.
_BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Between two looks at a Redis that answers but cannot be used: somebody may be changing its settings.
_UNSUITABLE_SECONDS: Final = 5.0
#: How often Redis is asked whether it takes writes: as exactly an outage is measured.
_PROBE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What one process is made of."""

    commands: AsyncClient
    #: Has no read timeout: between two rings there may be hours.
    bells: AsyncClient
    doorbells: Doorbells
    hub: Hub
    following: Following
    reaper: Reaper
    announcer: Announcer
    state: State
    #: Set by each new connection of a doorbell.
    reconnected: asyncio.Event


def create_app(settings: ServerSettings) -> Starlette:
    """The application. `app.state.drain` ends every stream in order; `app.state.hub` tells how many there are.

    `drain` takes a function that tells whether somebody is in a hurry, and then ends all at once.
    """
    parts = _build(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[State]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(parts.commands.aclose)
            stack.push_async_callback(parts.bells.aclose)
            await stack.enter_async_context(_running(parts, settings.durability))
            yield parts.state

    app = Application(
        origins=settings.allowed_origins,
        is_draining=lambda: parts.state["readiness"].is_draining,
        routes=routes(),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.drain = partial(_drain, parts)
    app.state.hub = parts.hub
    return app


def _build(settings: ServerSettings) -> _Parts:
    url = settings.redis_url.get_secret_value()
    name = f"reprise-server-{socket.gethostname()}"
    commands = connect(url, name=name)
    bells = connect(url, name=f"{name}-doorbells", socket_timeout=None, tells_of_moves=False)
    keys = Keys(settings.prefix)
    lifetimes = Lifetimes.lasting(
        retention_seconds=settings.retention_seconds,
        result_seconds=settings.result_seconds,
        dead_letter_seconds=settings.dead_letter_seconds,
    )
    log = Log(
        commands,
        keys,
        lifetimes=lifetimes,
        max_events=settings.max_stream_events,
        max_bytes=int(settings.max_stream_bytes),
        durability=settings.durability,
    )
    doorbells = Doorbells(bells, home=keys.bell(f"home.{token_hex(8)}"))

    hub = Hub(log, doorbells, options=_hub_options(settings))

    reconnected = asyncio.Event()
    hub.on_reconnect = reconnected.set

    def may_judge_expired() -> bool:
        return hub.may_judge_leases

    announcer = Announcer(log)
    store = TaskStore(
        commands,
        keys,
        announcer,
        lifetimes=lifetimes,
        may_judge_expired=may_judge_expired,
        durability=settings.durability,
    )
    streams = OpenStreams(
        commands,
        keys,
        log,
        lifetimes=lifetimes,
        max_events=settings.max_stream_events,
        max_bytes=int(settings.max_stream_bytes),
        durability=settings.durability,
    )
    dead_letters = DeadLetters(commands, keys, store, lifetimes=lifetimes)
    presence = Presence(commands, keys, store, grace_seconds=settings.disconnect_grace_seconds)
    following = Following(presence)
    hub.on_followed, hub.on_unfollowed = following.came, following.left
    reaper = Reaper(
        commands,
        keys,
        store,
        dead_letters,
        presence,
        interval_seconds=settings.lease_seconds,
        may_judge_expired=may_judge_expired,
    )
    state = State(
        store=store,
        dead_letters=dead_letters,
        registry=Registry(commands, keys),
        log=log,
        streams=streams,
        hub=hub,
        readiness=Readiness(ping=lambda: execute(commands, "PING"), is_live=lambda: hub.is_live),
        refusals=Refusals(),
        limits=Limits(
            max_connections=settings.max_connections,
            max_body_bytes=int(settings.max_event_bytes),
            max_attempts=settings.max_attempts,
            stall_seconds=settings.stall_seconds,
        ),
        metrics=Metrics(open_streams=lambda: hub.subscribers),
    )
    return _Parts(
        commands=commands,
        bells=bells,
        doorbells=doorbells,
        hub=hub,
        following=following,
        reaper=reaper,
        announcer=announcer,
        state=state,
        reconnected=reconnected,
    )


def _hub_options(settings: ServerSettings) -> HubOptions:
    return HubOptions(
        heartbeat_seconds=settings.heartbeat_seconds,
        max_stream_seconds=settings.max_stream_seconds,
        sweep_seconds=settings.sweep_seconds,
        window_bytes=int(settings.window_bytes),
        lease_seconds=settings.lease_seconds,
        stall_seconds=settings.stall_seconds,
        outage_seconds=settings.outage_seconds,
        drain_seconds=settings.drain_seconds,
    )


@asynccontextmanager
async def _running(parts: _Parts, durability: Durability) -> AsyncGenerator[None]:
    """The loops of the process, each in an asyncio task of its own that is started again if it fails."""
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "doorbells": parts.doorbells.run,
        "hub": parts.hub.run,
        "reaper": parts.reaper.run,
        "list of streams": parts.state["streams"].index.run,
        "start": lambda: _check_redis(parts, durability),
        "outages": lambda: _tell_of_outages(parts),
    }
    supervised = [asyncio.create_task(_supervise(name, loop), name=name) for name, loop in loops.items()]
    try:
        yield
    finally:
        await cancel_all(supervised)
        await parts.following.close()


async def _supervise(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await loop()
        except Exception:  # a supervised loop: a bug in one round must not end the process's live side for good
            _logger.exception("The loop %r failed and is started again", name)
        else:
            return
        await asyncio.sleep(random.uniform(0.5, 1.5))


async def _check_redis(parts: _Parts, durability: Durability) -> None:
    """Wait for Redis, check it, and tell the world that this server has started."""
    readiness = parts.state["readiness"]
    failures = 0
    said: set[str] = set()
    while readiness.unsuitable != []:
        try:
            found = await examine(parts.commands, durability)
        except LogUnavailable as error:
            if failures == 0:
                _logger.warning("Redis cannot be reached, trying again until it can: %s", error)
            await asyncio.sleep(_backoff_seconds(failures))
            failures += 1
            continue
        if readiness.unsuitable is None:
            for sentence in found.warnings:
                _logger.warning("%s", sentence)
        if list(found.refusals) != readiness.unsuitable:
            for sentence in found.refusals:
                _logger.error("This Redis cannot be used: %s", sentence)
        readiness.unsuitable = list(found.refusals)
        said = {*found.refusals, *found.warnings}
        if found.refusals:
            await asyncio.sleep(_UNSUITABLE_SECONDS)
    if failures:
        _logger.info("Redis answers now")
    await parts.announcer.info("A server has started.")
    await _keep_checking(parts, durability, said)


async def _keep_checking(parts: _Parts, durability: Durability, said: set[str]) -> None:
    """Check what is Redis after each loss of a connection, and say what is wrong with it and was not said yet.

    Only say: another master may be set up otherwise, but all servers would turn their readers away for it at once.
    """
    while True:
        await parts.reconnected.wait()
        parts.reconnected.clear()
        with suppress(LogUnavailable):  # it is lost again, and comes back again
            found = await examine(parts.commands, durability)
            before, said = said, {*found.refusals, *found.warnings}
            for sentence in sorted(said - before):
                _logger.error("Redis may be another one now, or set up anew. %s", sentence)


async def _tell_of_outages(parts: _Parts) -> None:
    """Have the log say when Redis stops to take writes and when it takes them again, whether or not somebody writes."""
    outage = Outage()
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_PROBE_SECONDS)
        if parts.state["readiness"].unsuitable != []:
            continue  # `_check_redis` speaks of it still
        try:
            await probe_writes(parts.commands)
        except LogUnavailable as error:
            outage.met(error, now=loop.time())
        else:
            outage.over(now=loop.time())


def _backoff_seconds(failures: int) -> float:
    return _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)] * random.uniform(0.7, 1.3)


async def _drain(parts: _Parts, is_urgent: Callable[[], bool] = lambda: False) -> None:
    """Take no more streams and end those there are; returns when all have ended, which has a limit."""
    parts.state["readiness"].is_draining = True
    if cut := await parts.hub.drain(is_urgent=is_urgent):
        _logger.warning("%d reader(s) did not take the end of their stream in time and were cut off", cut)
