"""Carries a plan's faults out at their times, and writes into the chronicle what really happened.

Invariant: whatever it broke is mended when `run` returns, also when it is cancelled. Imports nothing of the product.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from tests.chaos.chronicle import Chronicle, Incident
from tests.chaos.follower import Violation
from tests.chaos.installation import Installation
from tests.chaos.keys import SHARED_KEYS, log_key, slot_of
from tests.chaos.links import WEATHERS
from tests.chaos.plan import TOPOLOGIES, Strike
from tests.chaos.redis_node import RedisNode

#: A move that is interrupted goes on once the nodes are back.
_MOVE_SECONDS = 60.0


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
        self._roles = {role for shape in TOPOLOGIES.values() for role in shape.roles}
        #: Nodes that are down or frozen now.
        self._struck: set[str] = set()
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
            elif victim == "slots":
                await self._move_slot(strike, incident)
            elif victim in self._roles:
                await self._strike_role(strike, incident)
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
        ended = f"{process.name} has ended by itself:\n{process.text[-3000:]}"
        assert process.is_running, ended
        if strike.kind.startswith("pause"):
            try:
                os.kill(process.pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(strike.seconds)
                finally:
                    os.kill(process.pid, signal.SIGCONT)
            except ProcessLookupError:  # the loop has not been told of its end yet
                raise AssertionError(ended) from None
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

    async def _strike_role(self, strike: Strike, incident: Incident) -> None:
        topology = self._installation.topology
        known = [node for node in await topology.in_role(strike.target) if node.name not in self._struck]
        others = [node for node in topology.nodes.values() if node.is_up and not node.is_sentinel]
        candidates = known or others  # in the middle of a failover nobody may be the master
        if not candidates:
            self._chronicle.incidents.remove(incident)
            return
        node = candidates[strike.number % len(candidates)]
        if node.name != strike.target:
            incident.target = f"{strike.target} {node.name}"
        self._struck.add(node.name)
        try:
            await self._strike_node(node, strike, incident)
        finally:
            self._struck.discard(node.name)

    async def _strike_node(self, node: RedisNode, strike: Strike, incident: Incident) -> None:
        how, _, _ = strike.kind.partition("-")
        if how == "flush":
            incident.lost_since = 0.0
            with suppress(OSError, RuntimeError):  # it is away, or loads its data
                await self._installation.topology.flush()
            incident.lost_until = self._clock()
        elif how == "pause":
            node.pause()
            try:
                await asyncio.sleep(strike.seconds)
            finally:
                node.resume()
        else:
            try:
                if how == "lose":
                    incident.lost_since = self._clock() - strike.amount
                    incident.lost_since = self._clock() - await node.lose(strike.amount)
                else:
                    await node.kill()
                await asyncio.sleep(strike.seconds)
            finally:
                await node.start()

    async def _move_slot(self, strike: Strike, incident: Incident) -> None:
        keys = [*map(log_key, self._running()), *SHARED_KEYS]
        key = keys[int(strike.amount * len(keys)) % len(keys)]
        incident.target = f"slot {slot_of(key)}"
        try:
            async with asyncio.timeout(_MOVE_SECONDS):
                was_smooth = await self._installation.topology.move_slot(key, strike.amount * len(keys) % 1)
        except TimeoutError:
            raise AssertionError(f"{incident.target} could not be moved within {_MOVE_SECONDS:g} s.") from None
        if not was_smooth:
            # A node was struck while keys were on two: whichever replaced it may have been behind.
            incident.lost_since, incident.slots = incident.began, frozenset({slot_of(key)})
            incident.lost_until = self._clock()

    async def _delete_log(self, strike: Strike, incident: Incident) -> None:
        running = self._running()
        if running:
            incident.task_id = running[int(strike.amount * len(running)) % len(running)]
            incident.lost_since = 0.0
            key = log_key(incident.task_id)
            with suppress(OSError, RuntimeError):
                await self._installation.topology.command(key, "DEL", key)
            incident.lost_until = self._clock()
