"""Workers, publishers and the server that cancels and re-runs: small shells around the product's writers.

A worker does in order what `workers` does: claim (again with the same nonce while the answer is unknown), write with a
`StreamWriter`, renew five times a lease, heed what a renewal finds.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from server.streams import calls
from server.streams.calls import Ending
from server.streams.connections import run
from server.streams.errors import Conflict, Fenced, LogUnavailable
from server.streams.event import CANCELLED, CHECKPOINT, COMPLETE, ERROR, Draft
from server.streams.ids import EventId
from server.streams.lane import Lane
from server.streams.lease import RENEWALS_PER_LEASE, Lease
from server.streams.log import Log
from server.streams.names import task_stream
from server.streams.records import Status
from server.streams.writer import StreamWriter, WriterOptions
from tests.model.wire import LinkConnection
from tests.model.world import LEASE_SECONDS, LIFETIMES, World

TASK = "t"
TASK_STREAM = task_stream(TASK)
_OPTIONS = WriterOptions(LIFETIMES, max_events=0, lease_ms=round(LEASE_SECONDS * 1000))


@dataclass(slots=True, eq=False)
class Run:
    """One claim that was granted, until the worker forgets it."""

    writer: StreamWriter
    lease: Lease
    nonce: str
    renewing: asyncio.Task[None] | None = None
    finishing: asyncio.Task[Any] | None = None
    #: Set once the terminal event is known to be stored; the worker stays a while and compares once more.
    has_finished: bool = False


class Worker:
    """One worker process."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.link = world.link(name)
        self.lane = self._new_lane()
        self.run: Run | None = None
        #: Nonce of a claim whose answer is not known, and when it was first asked for.
        self._claim: tuple[str, float] | None = None
        self._job: asyncio.Task[Any] | None = None

    @property
    def is_busy(self) -> bool:
        return self._job is not None and not self._job.done()

    @property
    def is_writing(self) -> bool:
        return self.run is not None and not self.run.has_finished and self.run.finishing is None

    def do(self, work: Any) -> None:
        """Begin something, unless something is under way."""
        if self.is_busy:
            work.close()
            return
        self._job = self.world.spawn(work)

    async def claim(self) -> None:
        if self.run is not None:
            return
        world = self.world
        if self._claim is None:
            self._claim = (f"{self.name}{world.next_number()}", world.loop.time())
        nonce, asked_at = self._claim
        may_take = world.has_been_up_for_a_lease()
        call = calls.claim(
            world.keys,
            TASK,
            nonce=nonce,
            worker=self.name,
            lease_ms=_OPTIONS.lease_ms,
            entropy=world.entropy(),
            lifetimes=LIFETIMES,
            may_take_expired=may_take,
        )
        try:
            claimed = await run(self.link, call)
        except LogUnavailable:
            return
        self._claim = None
        if claimed.outcome == "held" and world.redis("HGET", world.keys.record(TASK), "owner") == nonce.encode():
            world.oracle.fail(f"{self.name} is held off by its own claim")
        if claimed.outcome == "claimed" and claimed.record:
            # Counted from the first time it was asked for: a repeated claim renews nothing.
            lease = Lease(LEASE_SECONDS, asked_at=asked_at, clock=world.loop.time)
            writer = StreamWriter(
                self.link, world.keys, claimed.record, nonce=nonce, lease=lease, options=_OPTIONS, lane=self.lane
            )
            await writer.__aenter__()
            self.run = Run(writer, lease, nonce)
            self.run.renewing = world.spawn(self._renew_for_ever(self.run))

    async def emit(self, count: int) -> None:
        """Emit events, each with data that no other event has."""
        for _ in range(count):
            await self._emit("token", {"n": self.world.next_number()}, {})

    async def checkpoint(self) -> None:
        """Mark that output stands up to here."""
        if self.is_writing and self.run:
            at = self.run.writer._outbox.last_id.next()
            await self._emit(
                CHECKPOINT, {"state": self.world.next_number()}, {"resume_from": str(at), "checkpoint": "{}"}
            )

    async def finish(self, status: Status) -> None:
        """End the task; the answer may take its time."""
        found = self.run
        if not self.is_writing or found is None:
            return
        number = self.world.next_number()
        body: dict[str, Any] = {"result": number} if status is Status.COMPLETED else {"error": str(number), "code": "x"}
        found.finishing = asyncio.ensure_future(
            found.writer.finish(status, "{}" if status is Status.CANCELLED else json.dumps(body))
        )
        try:
            await found.finishing
            found.has_finished = True
        except Fenced:
            await self._forget(found)

    async def verify(self) -> None:
        """Compare once more after the end."""
        found = self.run
        if found and found.has_finished:
            try:
                await found.writer.verify()
            except Fenced:
                await self._forget(found)

    async def leave(self) -> None:
        """Forget a task that has ended."""
        if self.run and self.run.has_finished:
            await self._forget(self.run)

    async def release(self) -> None:
        """Hand the task back."""
        found = self.run
        if found is None or not self.is_writing:
            return
        with suppress(Fenced, LogUnavailable):
            await found.writer.flush()
            await run(self.link, calls.release(self.world.keys, TASK, nonce=found.nonce))
        await self._forget(found)

    async def kill(self) -> None:
        """The process is gone, and with it all it knew; only what it has sent may still arrive."""
        if self._job:
            self._job.cancel()
        self._claim = None
        if self.run:
            await self._forget(self.run)
        await self.lane.aclose()
        self.lane = self._new_lane()
        self.link.forget()

    def _new_lane(self) -> Lane:
        async def dial() -> LinkConnection:
            return LinkConnection(self.link)

        return Lane(dial)

    async def _emit(self, event_type: str, data: dict[str, Any], values: dict[str, str]) -> None:
        found = self.run
        if not self.is_writing or found is None:
            return
        draft = Draft(event_type, json.dumps(data))
        try:
            event_id = await found.writer.emit(draft, values)
        except Fenced:
            await self._forget(found)
            return
        self.world.oracle.note_emitted(event_id, draft.type, draft.data)

    async def _renew_for_ever(self, found: Run) -> None:
        while self.run is found:
            await asyncio.sleep(LEASE_SECONDS / RENEWALS_PER_LEASE)
            if not found.has_finished:
                with suppress(LogUnavailable):
                    await self._renew(found)

    async def _renew(self, found: Run) -> None:
        asked_at = self.world.loop.time()
        call = calls.renew(
            self.world.keys,
            TASK,
            nonce=found.nonce,
            lease_ms=_OPTIONS.lease_ms,
            lifetimes=LIFETIMES,
            stored=found.writer.stored,
        )
        renewal = await run(self.link, call)
        if renewal.outcome == "renewed":
            found.lease.renewed(asked_at=asked_at)
            if not renewal.is_intact:
                found.writer.probe()
            if renewal.is_cancel_requested and self.is_writing:
                self.do(self.finish(Status.CANCELLED))
        elif renewal.outcome == "absent" and found.lease.is_fresh:
            found.writer.probe()
        elif renewal.outcome == "ended" and found.finishing:
            pass  # most likely by this very writer: its append knows
        else:
            found.writer.fence(f"renewal answered {renewal.outcome!r}")
            await self._forget(found)

    async def _forget(self, found: Run) -> None:
        if self.run is found:
            self.run = None
        for each in (found.renewing, found.finishing):
            if each and each is not asyncio.current_task():
                each.cancel()
        await found.writer.__aexit__(None)


class Desk:
    """A server process as the API uses it on tasks: create, cancel, reap, re-run, delete. It repeats nothing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.link = world.link("S")

    async def create(self) -> None:
        values = {"type": "x", "title": "x", "input": "{}", "queue": "default", "max_attempts": "99", "queued": "1"}
        await run(self.link, calls.create(self.world.keys, TASK, body="b", values=values, lifetimes=LIFETIMES))

    async def settle(self, mode: str) -> None:
        number = self.world.next_number()
        data = json.dumps({"error": str(number), "code": "reaped"})
        ending = Ending("cancelled", CANCELLED, "{}") if mode == "cancel" else Ending("failed", ERROR, data)
        call = calls.settle(
            self.world.keys,
            TASK,
            ending,
            mode=mode,
            entropy=self.world.entropy(),
            lifetimes=LIFETIMES,
            may_judge_expired=self.world.has_been_up_for_a_lease(),
        )
        with suppress(LogUnavailable):
            await run(self.link, call)

    async def rerun(self) -> None:
        raw = self.world.redis("HGET", self.world.keys.record(TASK), "attempt")
        call = calls.start(self.world.keys, TASK, rerun_of=int(raw or 0), lifetimes=LIFETIMES)
        with suppress(LogUnavailable):
            await run(self.link, call)

    async def delete(self) -> None:
        with suppress(LogUnavailable):
            await run(self.link, calls.delete(self.world.keys, TASK, lifetimes=LIFETIMES))


class Publisher:
    """One process that publishes to a shared stream."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.link = world.link(name)
        self.log = Log(self.link, world.keys, lifetimes=LIFETIMES, max_events=0)
        self._job: asyncio.Task[Any] | None = None
        #: The newest id this process was ever given.
        self.acknowledged: EventId | None = None

    def publish(self, count: int) -> None:
        """Publish a batch, unless one is under way."""
        if self._job is None or self._job.done():
            self._job = self.world.spawn(self._publish(count))

    def close(self) -> None:
        """Append the terminal event."""
        if self._job is None or self._job.done():
            self._job = self.world.spawn(self._close())

    async def _close(self) -> None:
        number = self.world.next_number()
        call = calls.publish(
            self.world.keys,
            self.world.stream,
            [Draft(COMPLETE, json.dumps({"n": number}))],
            token=f"{self.name}.{number}",
            token_ms=60_000,
            entropy=self.world.entropy(),
            known=None,
            lifetimes=LIFETIMES,
            max_events=0,
            is_terminal=True,
        )
        with suppress(LogUnavailable):
            await run(self.link, call)

    async def _publish(self, count: int) -> None:
        drafts = [Draft("note", json.dumps({"n": self.world.next_number()})) for _ in range(max(count, 1))]
        self.world.oracle.note_publishing([draft.data for draft in drafts], self.acknowledged)
        token = f"{self.name}.{self.world.next_number()}"
        with suppress(LogUnavailable, Conflict):
            ids = await self.log.publish(self.world.stream, drafts, token=token)
            self.acknowledged = max(ids[-1], self.acknowledged or ids[-1])
            self.world.oracle.note_acknowledged(ids, drafts)


class Foreign:
    """A writer in another language: XADD with ids of its own, generation by the clock, no ring."""

    def __init__(self, world: World) -> None:
        self.world = world

    def add(self, count: int) -> None:
        """Open a generation and write a few events; refused (as by Redis) if its clock is behind."""
        oracle = self.world.oracle
        if oracle.log and oracle.book[oracle.log[-1]].is_terminal:
            return
        generation = max(self.world.foreign_now_ms(), oracle.highest_known_generation() + 1)
        while generation in oracle.generations:
            generation += 1
        for sequence in range(count):
            event_id = f"{generation}-{sequence}"
            data = json.dumps({"n": self.world.next_number()})
            self.world.perform([("XADD", self.world.log_key, event_id, "e", "note", "d", data)])
