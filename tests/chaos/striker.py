"""Carries a plan's faults out at their times, and writes into the chronicle what really happened.

Invariant: whatever it broke is mended when `run` returns, also when it is cancelled. Imports nothing of the product.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from tests.chaos.chronicle import Chronicle, Incident
from tests.chaos.follower import Violation
from tests.chaos.installation import Installation
from tests.chaos.links import WEATHERS
from tests.chaos.plan import Strike


class Striker:
    """`running` gives the tasks whose logs can be deleted: their ids."""

    def __init__(
        self,
        installation: Installation,
        chronicle: Chronicle,
        *,
        clock: Callable[[], float],
        running: Callable[[], Sequence[str]],
    ) -> None:
        self._installation = installation
        self._chronicle = chronicle
        self._clock = clock
        self._running = running
        #: Processes that did not end, or not start, as they should.
        self.violations: list[Violation] = []
        for process in installation.workers:
            chronicle.workers[process.pid] = process.name

    async def run(self, strikes: Sequence[Strike]) -> None:
        """Return once the last one is over."""
        async with asyncio.TaskGroup() as group:
            for strike in strikes:
                await asyncio.sleep(max(0.0, strike.at - self._clock()))
                group.create_task(self._strike(strike), name=str(strike))

    async def _strike(self, strike: Strike) -> None:
        incident = self._chronicle.add(strike.kind, strike.target, self._clock())
        victim, _, _ = strike.target.partition(":")
        try:
            if victim == "link":
                await self._spoil(strike)
            elif victim == "log":
                await self._delete_log(strike, incident)
            elif strike.target in self._installation.topology.nodes:
                await self._strike_node(strike, incident)
            else:
                await self._strike_process(strike)
        except AssertionError as failure:
            self.violations.append(Violation("process", str(failure), self._clock()))
        finally:
            incident.healed = self._clock()

    async def _spoil(self, strike: Strike) -> None:
        link = self._installation.links[strike.target]
        WEATHERS[strike.kind](link, strike.amount)
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            link.calm()

    async def _strike_process(self, strike: Strike) -> None:
        process = self._installation.processes[strike.target]
        assert process.is_running, f"{process.name} has ended by itself:\n{process.text[-3000:]}"
        if strike.kind.startswith("pause"):
            os.kill(process.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(strike.seconds)
            finally:
                os.kill(process.pid, signal.SIGCONT)
            return
        try:
            if strike.kind.startswith("stop"):
                await process.stop()
            else:
                await process.kill()
            await asyncio.sleep(strike.seconds)
        finally:
            await process.start()
            self._chronicle.workers[process.pid] = process.name

    async def _strike_node(self, strike: Strike, incident: Incident) -> None:
        node = self._installation.topology.nodes[strike.target]
        if strike.kind == "flush-redis":
            incident.lost_since = 0.0
            with suppress(OSError, RuntimeError):  # it is away, or loads its data
                await self._installation.topology.flush()
        elif strike.kind == "pause-redis":
            node.pause()
            try:
                await asyncio.sleep(strike.seconds)
            finally:
                node.resume()
        else:
            try:
                if strike.kind == "lose-redis":
                    incident.lost_since = self._clock() - strike.amount
                    incident.lost_since = self._clock() - await node.lose(strike.amount)
                else:
                    await node.kill()
                await asyncio.sleep(strike.seconds)
            finally:
                await node.start()

    async def _delete_log(self, strike: Strike, incident: Incident) -> None:
        running = self._running()
        if running:
            incident.task_id = running[int(strike.amount * len(running)) % len(running)]
            incident.lost_since = 0.0
            key = log_key(incident.task_id)
            with suppress(OSError, RuntimeError):
                await self._installation.topology.command(key, "DEL", key)


def log_key(task_id: str) -> str:
    """docs/keys.md"""
    return f"reprise:{{tasks.{task_id}}}:log"


def names_of(strikes: Sequence[Strike]) -> Mapping[str, int]:
    """How many of each kind."""
    found: dict[str, int] = {}
    for strike in strikes:
        found[strike.kind] = found.get(strike.kind, 0) + 1
    return found
