"""What a server finds out about its Redis, and says in the log: when it starts, after each reconnect, in an outage.

Invariant: only the checks at the start turn readiness red. What is found later is said and no more: another master may
be set up otherwise, but all servers would turn their readers away for it at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Final

from server.streams.connections import AsyncClient, probe_writes
from server.streams.durability import Durability
from server.streams.errors import LogUnavailable
from server.streams.outage import Outage
from server.streams.refusing import at_first
from server.streams.safety import Safety
from server.streams.suitability import examine
from server.web.readiness import Readiness

_log = logging.getLogger(__name__)

#: Quick at first, for a Redis that starts together with us; then as often as somebody who mends it would look.
_BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Between two looks at a Redis that answers but cannot be used: somebody may be changing its settings.
_UNSUITABLE_SECONDS: Final = 5.0
#: How often Redis is asked whether it takes writes: as exactly an outage is measured.
_PROBE_SECONDS: Final = 1.0


async def until_usable(commands: AsyncClient, durability: Durability, readiness: Readiness) -> set[str]:
    """Wait for Redis until it can be used; returns what was said of it."""
    failures = 0
    said: set[str] = set()
    refused: tuple[str, ...] = ()
    while readiness.unsuitable != []:
        try:
            found = await examine(commands, durability)
        except LogUnavailable as error:
            if failures == 0:
                told = at_first(error, has_tls=readiness.has_tls) if readiness.unsuitable is None else str(error)
                _log.warning("Redis cannot be reached, trying again until it can: %s", told)
            await asyncio.sleep(_backoff_seconds(failures))
            failures += 1
            continue
        if readiness.unsuitable is None:
            for sentence in found.warnings:
                _log.warning("%s", sentence)
        if found.refusals != refused:
            for sentence in found.refusals:
                _log.error("This Redis cannot be used: %s", sentence)
        refused = found.refusals
        readiness.unsuitable = list(found.plain_refusals)
        said = {*found.refusals, *found.warnings}
        if found.refusals:
            await asyncio.sleep(_UNSUITABLE_SECONDS)
    if failures:
        _log.info("Redis answers now")
    return said


async def keep_checking(
    commands: AsyncClient, durability: Durability, *, reconnected: asyncio.Event, said: set[str]
) -> None:
    """Check what is Redis after each loss of a connection, and say what is wrong with it and was not `said` yet."""
    while True:
        await reconnected.wait()
        reconnected.clear()
        with suppress(LogUnavailable):  # it is lost again, and comes back again
            found = await examine(commands, durability)
            before, said = said, {*found.refusals, *found.warnings}
            for sentence in sorted(said - before):
                _log.error("Redis may be another one now, or set up anew. %s", sentence)


async def tell_of_outages(commands: AsyncClient, readiness: Readiness, safety: Safety) -> None:
    """Have the log say when Redis stops to take writes and when it takes them again, whether or not somebody writes.

    The same of making them as durable as REPRISE_DURABILITY asks for.
    """
    outage = Outage()
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_PROBE_SECONDS)
        if readiness.unsuitable != []:
            continue  # `until_usable` speaks of it still
        try:
            await probe_writes(commands)
            await safety.look(now=loop.time())
        except LogUnavailable as error:
            outage.met(error, now=loop.time())
        else:
            outage.over(now=loop.time())


def _backoff_seconds(failures: int) -> float:
    return _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)] * random.uniform(0.7, 1.3)
