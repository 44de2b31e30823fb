"""Schedules: what happens, one line of a few words each; how they are drawn, run, and shrunk.

Every action is skipped where it makes no sense, so any part of a schedule is a schedule: that is what makes shrinking
simple, and a shrunk one readable.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from server.streams.errors import LogUnavailable
from server.streams.jitter import jitter
from server.streams.records import Status
from tests.model.clients import Client
from tests.model.clock import VirtualLoop, product_clocks
from tests.model.oracle import Violation
from tests.model.scripts import Cut, model_scripts
from tests.model.world import LEASE_SECONDS, REPLICAS, Server, World
from tests.model.writers import TASK_STREAM, Desk, Foreign, Publisher, Worker

Schedule = tuple[str, ...]

OWNED, SHARED = "owned", "shared"
_CLIENTS = ("C1", "C2", "C3")
_STATUSES = {"ok": Status.COMPLETED, "fail": Status.FAILED}


class Cast:
    """Everybody who acts in a schedule."""

    def __init__(self, world: World) -> None:
        self.world = world
        is_task = world.oracle.is_task
        self.workers = {name: Worker(world, name) for name in ("A", "B")} if is_task else {}
        self.publishers = {name: Publisher(world, name) for name in ("P", "Q")} if not is_task else {}
        world.fresh_nonces = self._fresh_nonces
        self.desk = Desk(world)
        self.foreign = Foreign(world)
        # One of them sees superseded attempts too.
        self.clients = {name: Client(world, name, all_attempts=is_task and name == "C3") for name in _CLIENTS}

    def _fresh_nonces(self) -> set[str]:
        return {each.run.nonce for each in self.workers.values() if each.run and each.run.lease.is_fresh}

    async def act(self, line: str) -> None:
        """Do one action; unknown words are an error, impossible actions nothing."""
        verb, *rest = line.split()
        action: Callable[..., Any] = getattr(self, "do_" + verb.replace("-", "_"))
        found = action(*rest)
        if found is not None:
            await found
        await self.world.step()
        for client in self.clients.values():
            client.receive()

    # Workers.

    def do_claim(self, name: str) -> None:
        self.workers[name].do(self.workers[name].claim())

    async def do_emit(self, name: str, count: str) -> None:
        await self.workers[name].emit(int(count))

    async def do_checkpoint(self, name: str) -> None:
        await self.workers[name].checkpoint()

    def do_finish(self, name: str, status: str) -> None:
        self.workers[name].do(self.workers[name].finish(_STATUSES[status]))

    def do_verify(self, name: str) -> None:
        self.workers[name].do(self.workers[name].verify())

    async def do_leave(self, name: str) -> None:
        await self.workers[name].leave()

    def do_release(self, name: str) -> None:
        self.workers[name].do(self.workers[name].release())

    async def do_kill(self, name: str) -> None:
        await self.workers[name].kill()

    # The task.

    def do_cancel(self) -> None:
        self.world.spawn(self.desk.settle("cancel"))

    def do_reap(self) -> None:
        self.world.spawn(self.desk.settle("reap"))

    def do_rerun(self) -> None:
        self.world.spawn(self.desk.rerun())

    def do_delete(self) -> None:
        self.world.spawn(self.desk.delete())

    # Shared streams.

    def do_publish(self, name: str, count: str) -> None:
        self.publishers[name].publish(int(count))

    def do_close(self, name: str) -> None:
        self.publishers[name].close()

    def do_foreign(self, count: str) -> None:
        self.foreign.add(int(count))

    # Links.

    def do_fault(self, name: str, kind: str) -> None:
        self.world.link(name).faults.append(kind)

    def do_arrive(self, name: str) -> None:
        self.world.link(name).arrive()

    def do_unhold(self, name: str) -> None:
        self.world.link(name).unhold()

    def do_partition(self, name: str) -> None:
        self.world.link(name).is_partitioned = True

    def do_heal(self, name: str) -> None:
        self.world.link(name).heal()

    # Redis.

    async def do_time(self, milliseconds: str) -> None:
        await self.world.step(int(milliseconds) / 1000)

    async def do_outage(self, milliseconds: str) -> None:
        await self.world.outage(int(milliseconds) / 1000)

    def do_trim(self, keep: str) -> None:
        self.world.trim(int(keep))

    def do_xdel(self, place: str) -> None:
        self.world.delete_entry(int(place))

    def do_del_log(self) -> None:
        self.world.delete_log()

    def do_flushall(self) -> None:
        self.world.flush_all()

    def do_backup(self) -> None:
        self.world.take_backup()

    async def do_failover(self, skew_ms: str) -> None:
        await self.world.fail_over(int(skew_ms))

    async def do_restart(self) -> None:
        await self.world.restart()

    # Replicas and clients.

    def do_bells(self, name: str, mode: str) -> None:
        self.world.replicas[name].bells.mode = mode

    def do_ring(self, name: str, order: str) -> None:
        self.world.replicas[name].bells.release(order)

    def do_reconnect(self, name: str) -> None:
        self.world.replicas[name].bells.on_connect()

    def do_sweep(self, name: str) -> None:
        self.world.spawn(self._sweep(name))

    def do_connect(self, name: str, replica: str, start: str) -> None:
        log = self.world.oracle.log
        if start.startswith("id"):
            book = sorted(self.world.oracle.book)
            start = "{}-{}".format(*book[int(start[2:]) % len(book)]) if book else "start"
        assert log is not None
        self.clients[name].connect(self.world.replicas[replica], start)

    def do_disconnect(self, name: str, keep: str) -> None:
        self.clients[name].disconnect(int(keep))

    def do_stall(self, name: str) -> None:
        self.clients[name].stall()

    def do_unstall(self, name: str) -> None:
        self.clients[name].unstall()

    async def _sweep(self, name: str) -> None:
        with suppress(LogUnavailable):
            await self.world.replicas[name].sweep()

    # The end of every schedule.

    async def come_to_rest(self) -> None:
        """Heal everything, give everybody time, and judge; then end the task, and judge again."""
        for replica in self.world.replicas.values():
            replica.bells.mode = "pass"
            replica.bells.release("ordered")
        for client in self.clients.values():
            client.unstall()
        await self._rest()
        self.world.oracle.judge_the_quiet()
        if self.world.oracle.is_task and self.world.oracle.record:
            await self._end_task()
            await self._rest()
            self.world.oracle.judge_the_quiet()
        if self.world.oracle.is_task:  # a shared stream whose end was lost goes on
            self._check_responses_ended()

    async def _rest(self) -> None:
        lease_ms = int(self.world.oracle.record.get("lease_until", 0)) - self.world.redis_now_ms()
        for round_number in range(8 + max(lease_ms, 0) // 1000):
            self._heal_links()
            for client in self.clients.values():
                client.receive()
                if client.has_begun and not client.is_connected:
                    client.connect(self.world.replicas[REPLICAS[round_number % 2]], "start")
            await self.world.step(LEASE_SECONDS / 3)
            for name in REPLICAS:
                await self._sweep(name)
            await self.world.step()
        for client in self.clients.values():
            client.receive()

    def _heal_links(self) -> None:
        for link in self.world.links.values():
            link.faults.clear()
            link.heal()
            while link.arrive():
                pass

    async def _end_task(self) -> None:
        """Whoever writes finishes; else somebody takes the task and finishes it."""
        for _ in range(3):
            writing = [worker for worker in self.workers.values() if worker.is_writing]
            if self.world.oracle.has_ended:
                return
            if writing:
                writing[-1].do(writing[-1].finish(Status.COMPLETED))
            else:
                self.do_claim("B" if self.workers["A"].run else "A")
            await self.world.step(LEASE_SECONDS * 1.5)

    def _check_responses_ended(self) -> None:
        for client in self.clients.values():
            if client.is_done and client.is_connected:
                self.world.oracle.fail(f"{client.name}'s response goes on after its end")


@dataclass(slots=True)
class Outcome:
    """How a schedule went."""

    schedule: Schedule
    violation: str | None
    #: What each client saw.
    journals: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def play(
    server: Server,
    family: str,
    schedule: Sequence[str],
    *,
    cuts: Sequence[Cut] = (),
    clients_only: bool = False,
    numbers: int = 1,
) -> Outcome:
    """Run a schedule against the product, with `cuts` taken out of its scripts; `numbers` seeds its random numbers."""
    loop = VirtualLoop()
    random.seed(1)
    jitter.seed(1)
    try:
        with _product(loop, cuts):
            return loop.run_until_complete(_play(server, loop, family, tuple(schedule), clients_only, numbers))
    except asyncio.CancelledError:
        return Outcome(tuple(schedule), "somebody is busy without end")
    finally:
        loop.close()


@contextmanager
def _product(loop: VirtualLoop, cuts: Sequence[Cut]) -> Generator[None]:
    # Warnings of lost data are the daily bread of a schedule.
    logging.disable(logging.CRITICAL)
    try:
        with product_clocks(loop), model_scripts(cuts):
            yield
    finally:
        logging.disable(logging.NOTSET)


async def _play(
    server: Server, loop: VirtualLoop, family: str, schedule: Schedule, clients_only: bool, numbers: int
) -> Outcome:
    loop.schedule = asyncio.current_task()
    world = World(server, loop, TASK_STREAM if family == OWNED else "news", random.Random(numbers))
    world.oracle.clients_only = clients_only
    cast = Cast(world)
    violation: str | None = None
    try:
        with patch("server.streams.log.secrets.randbelow", world.entropy):
            if family == OWNED:
                await cast.desk.create()
                await world.step()
            for line in schedule:
                await cast.act(line)
                world.check()
            await cast.come_to_rest()
            world.check()
    except Violation as found:
        violation = str(found)
    finally:
        await world.close()
    return Outcome(schedule, violation, {reader.name: reader.journal for reader in world.oracle.readers})
