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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from secrets import token_hex

from starlette.applications import Starlette

from server.fanout import Hub, HubOptions
from server.fanout.following import Following
from server.redis_checks import keep_checking, tell_of_outages, until_usable
from server.settings import ServerSettings
from server.streams.announcements import Announcer
from server.streams.calls import Lifetimes
from server.streams.cancelling import cancel_all
from server.streams.connections import AsyncClient, connect, execute, has_tls
from server.streams.dead_letters import DeadLetters
from server.streams.doorbell import Doorbells
from server.streams.durability import Durability
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.open_streams import OpenStreams
from server.streams.presence import Presence
from server.streams.reaper import Reaper
from server.streams.registry import Registry
from server.streams.safety import Safety
from server.streams.tasks import TaskStore
from server.web.metrics import Metrics
from server.web.origins import Application
from server.web.readiness import Readiness
from server.web.refusals import EXCEPTION_HANDLERS, Refusals
from server.web.routes import routes
from server.web.state import Limits, State

_logger = logging.getLogger(__name__)


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
    lifetimes = _lifetimes(settings)
    log = _new_log(commands, keys, settings, lifetimes)
    doorbells = Doorbells(bells, home=keys.bell(f"home.{token_hex(8)}"))
    hub = Hub(log, doorbells, options=_hub_options(settings))
    reconnected = asyncio.Event()
    hub.on_reconnect = reconnected.set

    announcer = Announcer(log)
    store = TaskStore(
        commands,
        keys,
        announcer,
        lifetimes=lifetimes,
        may_judge_expired=lambda: hub.may_judge_leases,
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
        may_judge_expired=lambda: hub.may_judge_leases,
    )
    state = State(
        store=store,
        dead_letters=dead_letters,
        registry=Registry(commands, keys),
        log=log,
        streams=_open_streams(settings, commands=commands, keys=keys, log=log, lifetimes=lifetimes),
        hub=hub,
        readiness=_readiness(commands, hub, url),
        safety=Safety(commands, settings.durability),
        refusals=Refusals(),
        limits=_limits(settings),
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


def _lifetimes(settings: ServerSettings) -> Lifetimes:
    return Lifetimes.lasting(
        retention_seconds=settings.retention_seconds,
        result_seconds=settings.result_seconds,
        dead_letter_seconds=settings.dead_letter_seconds,
    )


def _new_log(commands: AsyncClient, keys: Keys, settings: ServerSettings, lifetimes: Lifetimes) -> Log:
    return Log(
        commands,
        keys,
        lifetimes=lifetimes,
        max_events=settings.max_stream_events,
        max_bytes=int(settings.max_stream_bytes),
        durability=settings.durability,
    )


def _open_streams(
    settings: ServerSettings, *, commands: AsyncClient, keys: Keys, log: Log, lifetimes: Lifetimes
) -> OpenStreams:
    return OpenStreams(
        commands,
        keys,
        log,
        lifetimes=lifetimes,
        max_events=settings.max_stream_events,
        max_bytes=int(settings.max_stream_bytes),
        durability=settings.durability,
    )


def _readiness(commands: AsyncClient, hub: Hub, url: str) -> Readiness:
    return Readiness(ping=lambda: execute(commands, "PING"), is_live=lambda: hub.is_live, has_tls=has_tls(url))


def _limits(settings: ServerSettings) -> Limits:
    return Limits(
        max_connections=settings.max_connections,
        max_body_bytes=int(settings.max_event_bytes),
        max_attempts=settings.max_attempts,
        stall_seconds=settings.stall_seconds,
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
        "start": lambda: _start(parts, durability),
        "outages": lambda: tell_of_outages(parts.commands, parts.state["readiness"], parts.state["safety"]),
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


async def _start(parts: _Parts, durability: Durability) -> None:
    """Tell the world that this server has started once it can, and look after its Redis from then on."""
    said = await until_usable(parts.commands, durability, parts.state["readiness"])
    await parts.announcer.info("A server has started.")
    await keep_checking(parts.commands, durability, reconnected=parts.reconnected, said=said)


async def _drain(parts: _Parts, is_urgent: Callable[[], bool] = lambda: False) -> None:
    """Take no more streams and end those there are; returns when all have ended, which has a limit."""
    parts.state["readiness"].is_draining = True
    if cut := await parts.hub.drain(is_urgent=is_urgent):
        _logger.warning("%d reader(s) did not take the end of their stream in time and were cut off", cut)
