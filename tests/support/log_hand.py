"""A hand at every script: tests say what matters to them, the rest is usual.

`Hand` keeps the sequence of nothing: what a call should expect or carry is said by the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.streams import calls
from server.streams.calls import (
    Batch,
    Call,
    Claimed,
    Created,
    Ending,
    Lifetimes,
    Postponed,
    Renewal,
    Reply,
    Snapshot,
    T,
    WriterCalls,
)
from server.streams.connections import AsyncClient, execute, run
from server.streams.event import CANCELLED, ERROR, Draft, Event
from server.streams.ids import ORIGIN, EventId
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lanes import Lanes
from server.streams.lease import Lease, boot_seconds
from server.streams.names import task_stream
from server.streams.records import TaskRecord
from server.streams.writer import StreamWriter, WriterOptions

LIFETIMES = Lifetimes()
LEASE_MS = 10_000


def drafts(*datas: str) -> list[Draft]:
    return [Draft("t", data) for data in datas]


def numbered(first: int, last: int) -> list[Draft]:
    """Drafts whose data are their numbers."""
    return drafts(*map(str, range(first, last + 1)))


@dataclass(frozen=True)
class Hand:
    """Calls scripts over one client."""

    client: AsyncClient
    keys: Keys

    async def run(self, call: Call[T]) -> T:
        return await run(self.client, call)

    async def create(self, task_id: str = "a", *, body: str = "body", **values: str) -> Created:
        usual = {"type": "t", "title": "t", "input": "{}", "queue": "default", "max_attempts": "3", "queued": "1"}
        return await self.run(calls.create(self.keys, task_id, body=body, values=usual | values, lifetimes=LIFETIMES))

    async def claim(
        self,
        task_id: str = "a",
        *,
        nonce: str = "n1",
        lease_ms: int = LEASE_MS,
        entropy: int = 7,
        may_take_expired: bool = True,
    ) -> Claimed:
        return await self.run(
            calls.claim(
                self.keys,
                task_id,
                nonce=nonce,
                worker="w",
                lease_ms=lease_ms,
                entropy=entropy,
                lifetimes=LIFETIMES,
                may_take_expired=may_take_expired,
            )
        )

    async def claimed(self, task_id: str = "a", *, nonce: str = "n1", lease_ms: int = LEASE_MS) -> TaskRecord:
        """The record of a claim that must succeed."""
        found = await self.claim(task_id, nonce=nonce, lease_ms=lease_ms)
        assert found.record, found
        return found.record

    async def running(self, task_id: str = "a", *, nonce: str = "n1", lease_ms: int = LEASE_MS) -> TaskRecord:
        """A task, created and claimed."""
        await self.create(task_id)
        return await self.claimed(task_id, nonce=nonce, lease_ms=lease_ms)

    async def append(
        self,
        record: TaskRecord,
        first: int,
        events: Sequence[Draft] = (),
        *,
        mode: str = "append",
        expected: EventId | None = None,
        nonce: str = "n1",
        values: Mapping[str, str] | None = None,
        ends: bool = False,
        refresh: bool = False,
        max_events: int = 0,
        highest: int | None = None,
    ) -> Reply:
        batch = Batch(record.generation, first, events, is_terminal=ends)
        made = WriterCalls(
            self.keys, record.id, generation=record.generation, nonce=nonce, lease_ms=LEASE_MS, lifetimes=LIFETIMES
        )
        if mode == "repair":
            last = first + len(events) - 1 if highest is None else highest
            return await self.run(made.repair(batch, values=values or {}, highest=last, max_events=max_events))
        before = EventId(record.generation, first - 1) if expected is None else expected
        return await self.run(made.append(batch, expected=before, values=values, refreshes=refresh, trim_to=max_events))

    async def finish(self, record: TaskRecord, sequence: int, *, nonce: str = "n1") -> Reply:
        values = {"status": "completed", "end": '{"result":1}'}
        return await self.append(
            record, sequence, [Draft("complete", '{"result":1}')], values=values, ends=True, nonce=nonce
        )

    async def ended(self, task_id: str = "a") -> TaskRecord:
        """A task that ran and completed."""
        record = await self.running(task_id)
        assert (await self.finish(record, 1)).outcome == "stored"
        return record

    async def renew(
        self, task_id: str = "a", *, nonce: str = "n1", lease_ms: int = LEASE_MS, stored: EventId = ORIGIN
    ) -> Renewal:
        call = calls.renew(self.keys, task_id, nonce=nonce, lease_ms=lease_ms, lifetimes=LIFETIMES, stored=stored)
        return await self.run(call)

    async def overdue(self, task_id: str = "a", *, nonce: str = "n1", may_retry: bool = True) -> Renewal:
        call = calls.overdue(self.keys, task_id, nonce=nonce, error="it hung", may_retry=may_retry)
        return await self.run(call)

    async def release(self, task_id: str = "a", *, nonce: str = "n1") -> Reply:
        return await self.run(calls.release(self.keys, task_id, nonce=nonce))

    async def retry(
        self, task_id: str = "a", *, nonce: str = "n1", delay_ms: int = 60_000, error: str = "E: no", code: str = "c"
    ) -> Postponed:
        call = calls.retry(
            self.keys, task_id, nonce=nonce, delay_ms=delay_ms, error=error, code=code, lifetimes=LIFETIMES
        )
        return await self.run(call)

    async def expire(self, task_id: str = "a") -> Reply:
        return await self.run(calls.expire(self.keys, task_id, entropy=4, lifetimes=LIFETIMES))

    async def start(self, task_id: str = "a", *, rerun_of: int | None = None) -> Reply:
        return await self.run(calls.start(self.keys, task_id, rerun_of=rerun_of, lifetimes=LIFETIMES))

    async def settle(
        self, task_id: str = "a", *, mode: str = "cancel", entropy: int = 3, may_judge_expired: bool = True
    ) -> Reply:
        cancelled, failed = Ending("cancelled", CANCELLED, "{}"), Ending("failed", ERROR, '{"error":"e","code":"c"}')
        return await self.run(
            calls.settle(
                self.keys,
                task_id,
                cancelled if mode == "cancel" else failed,
                mode=mode,
                entropy=entropy,
                lifetimes=LIFETIMES,
                may_judge_expired=may_judge_expired,
            )
        )

    async def delete(self, task_id: str = "a") -> Reply:
        return await self.run(calls.delete(self.keys, task_id, lifetimes=LIFETIMES))

    async def amend(self, task_id: str = "a", **values: str) -> Reply:
        return await self.run(calls.amend(self.keys, task_id, values))

    async def publish(
        self,
        stream: str,
        events: Sequence[Draft],
        *,
        token: str,
        known: EventId | None = None,
        entropy: int = 5,
        max_events: int = 0,
        ends: bool = False,
        number: int | None = None,
    ) -> Reply:
        return await self.run(
            calls.publish(
                self.keys,
                stream,
                events,
                token=token,
                token_ms=60_000,
                entropy=entropy,
                known=known,
                lifetimes=LIFETIMES,
                max_events=max_events,
                is_terminal=ends,
                number=number,
            )
        )

    async def read(
        self, stream: str, *, first: EventId = ORIGIN, last: EventId | None = None, limit: int = 100
    ) -> Snapshot:
        return await self.run(calls.read(self.keys, stream, first=first, last=last, limit=limit))

    async def log(self, stream: str) -> tuple[Event, ...]:
        """Every entry of a stream, as Redis has it: page by page, for those of large events are short."""
        found: tuple[Event, ...] = ()
        while page := (await self.read(stream, first=found[-1].id.next() if found else ORIGIN, limit=100_000)).events:
            found += page
        return found

    async def task_log(self, task_id: str = "a") -> tuple[Event, ...]:
        return await self.log(task_stream(task_id))

    async def fields(self, task_id: str = "a") -> dict[str, str]:
        """The record's fields; empty if there is none."""
        raw: dict[bytes, bytes] = await execute(self.client, "HGETALL", self.keys.record(task_id))
        return {name.decode(): value.decode() for name, value in raw.items()}

    async def lose(self, *keys: str) -> None:
        """Redis loses these keys."""
        await execute(self.client, "DEL", *keys)

    async def lose_log(self, task_id: str = "a") -> None:
        await self.lose(self.keys.log(task_stream(task_id)))

    async def lose_record(self, task_id: str = "a") -> None:
        await self.lose(self.keys.record(task_id))

    def writer(
        self,
        record: TaskRecord,
        *,
        nonce: str = "n1",
        lease: Lease | None = None,
        max_events: int = 0,
        max_bytes: int = 0,
        lane: Lane | Lanes | None = None,
        lifetimes: Lifetimes = LIFETIMES,
    ) -> StreamWriter:
        return StreamWriter(
            self.client,
            self.keys,
            record,
            nonce=nonce,
            lease=lease or Lease(LEASE_MS / 1000, asked_at=boot_seconds()),
            options=WriterOptions(lifetimes, max_events, LEASE_MS, max_bytes=max_bytes),
            lane=lane,
        )
