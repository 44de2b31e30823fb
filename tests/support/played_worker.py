"""A worker played by the test: it offers a type, claims the task it is told to, and writes what the test says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from secrets import token_hex
from typing import Any

from server.streams import calls
from server.streams.calls import Lifetimes
from server.streams.connections import AsyncClient, run
from server.streams.event import draft
from server.streams.keys import Keys
from server.streams.lease import Lease, boot_seconds
from server.streams.registry import Registry, TaskType
from server.streams.writer import StreamWriter, WriterOptions

LEASE_MS = 10_000

STEPS = TaskType(
    "steps",
    "Does some steps.",
    {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 1, "maximum": 5},
            "names": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["count"],
        "additionalProperties": False,
    },
)
FREE = TaskType("free", "Takes anything.", {"type": "object"})
HEAVY = TaskType("heavy", "Wants a machine of its own.", {"type": "object"})
FLEETING = TaskType("fleeting", "Of no use without readers.", {"type": "object"}, on_disconnect="cancel")
COUNTDOWN = TaskType(
    "countdown",
    "Counts down.",
    {
        "type": "object",
        "properties": {"seconds": {"type": "integer", "minimum": 1, "maximum": 60}},
        "required": ["seconds"],
    },
)


class PlayedWorker:
    """Offers `types`; runs nothing by itself."""

    def __init__(self, client: AsyncClient, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._registry = Registry(client, keys)

    async def offer(self, *types: TaskType) -> None:
        await self._registry.heartbeat("played", types, details={})

    async def offer_in(self, queue: str, *, queues: list[str]) -> None:
        """Offer the type `heavy`, whose tasks go into `queue`, and take from `queues`."""
        await self._registry.heartbeat("played", [FREE, replace(HEAVY, queue=queue)], details={"queues": queues})

    @asynccontextmanager
    async def run(self, task_id: str) -> AsyncGenerator[StreamWriter]:
        """Claim the task; the writer is open within."""
        nonce, asked_at = token_hex(8), boot_seconds()
        call = calls.claim(
            self._keys,
            task_id,
            nonce=nonce,
            worker="played",
            lease_ms=LEASE_MS,
            entropy=0,
            lifetimes=Lifetimes(),
            may_take_expired=True,
        )
        claimed = await run(self._client, call)
        assert claimed.record, claimed
        lease = Lease(LEASE_MS / 1000, asked_at=asked_at)
        options = WriterOptions(Lifetimes(), max_events=10_000, lease_ms=LEASE_MS)
        async with StreamWriter(
            self._client, self._keys, claimed.record, nonce=nonce, lease=lease, options=options
        ) as writer:
            yield writer


def event(event_type: str, data: Any) -> Any:
    """A draft of what a task emits."""
    return draft(event_type, data, max_bytes=262_144)
