"""Which task types exist, what input they take, and which workers are alive.

Two hashes: types by name and workers by name, each value JSON with the moment it was last seen, by Redis' clock. A type
stays known for a day after its last worker, so that a task can be created while the workers restart; only live ones are
offered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

from server.streams.connections import (
    AsyncClient,
    Command,
    cluster_of,
    execute,
    execute_many,
    probe_writes,
    redis_seconds,
)
from server.streams.contact import write_probe
from server.streams.keys import Keys

#: How often a worker says that it lives, and after how many missed times it is taken for gone.
HEARTBEAT_SECONDS: Final = 5.0
_MISSED: Final = 3
_KNOWN_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class TaskType:
    """A kind of task that workers offer."""

    name: str
    description: str
    #: JSON Schema (2020-12) of the input object.
    input_schema: dict[str, Any]
    max_attempts: int | None = None
    #: Whether a task whose worker was lost is tried again: "retry" or "fail".
    on_worker_lost: str = "retry"
    #: What becomes of a task that nobody follows any more: "continue" or "cancel".
    on_disconnect: str = "continue"
    #: Where its tasks go unless whoever creates one says otherwise.
    queue: str = "default"


class Registry:
    """Announces and looks up task types and workers."""

    def __init__(self, client: AsyncClient, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def heartbeat(self, worker: str, types: Sequence[TaskType], *, details: dict[str, Any]) -> None:
        """Say that the worker lives and what it offers; to be called every `HEARTBEAT_SECONDS`."""
        now = await redis_seconds(self._client)
        pairs = [text for each in types for text in (each.name, json.dumps(asdict(each) | {"seen": now}))]
        offered = [each.name for each in types]
        commands: list[Command] = [
            ("HSET", self._keys.workers, worker, json.dumps(details | {"types": offered, "seen": now})),
            ("EXPIRE", self._keys.workers, _KNOWN_SECONDS),
        ]
        if pairs:
            commands += [("HSET", self._keys.types, *pairs), ("EXPIRE", self._keys.types, _KNOWN_SECONDS)]
        # In one write: a worker that ends in between would leave a key that never expires.
        await execute_many(self._client, commands)

    async def leave(self, worker: str) -> None:
        """Say that the worker is gone."""
        await execute(self._client, "HDEL", self._keys.workers, worker)

    async def forget_gone(self) -> None:
        """Forget workers and types that were seen for the last time a day ago: their hashes live as long as any
        does.
        """
        now = await redis_seconds(self._client)
        for key in (self._keys.workers, self._keys.types):
            for name, details in (await self._read(key)).items():
                if now - details["seen"] > _KNOWN_SECONDS:
                    await execute(self._client, "HDEL", key, name)

    async def lists(self, worker: str) -> bool:
        """Whether the worker still stands here; it does not once Redis was emptied.

        Raises `LogUnavailable` also where Redis answers and takes no writes.
        """
        if cluster_of(self._client):
            await probe_writes(self._client)  # each node has leases of its own
        asked = [("HEXISTS", self._keys.workers, worker), write_probe(self._keys.unfinished_index)]
        found = await execute_many(self._client, asked)
        return bool(found[0])

    async def is_empty(self) -> bool:
        """Whether no type is known at all: no worker has come yet, or Redis was emptied."""
        return not await execute(self._client, "EXISTS", self._keys.types)

    async def live_types(self) -> list[TaskType]:
        """What live workers offer, by name."""
        offered = {name for details in (await self.live_workers()).values() for name in details["types"]}
        known = await self._read(self._keys.types)
        return [_task_type(known[name]) for name in sorted(offered & known.keys())]

    async def live_workers(self) -> dict[str, dict[str, Any]]:
        """Details of each live worker by name."""
        now = await redis_seconds(self._client)
        found = await self._read(self._keys.workers)
        return {name: each for name, each in found.items() if now - each["seen"] < _MISSED * HEARTBEAT_SECONDS}

    async def known_type(self, name: str) -> TaskType | None:
        """The type, if a worker offered it within the last day."""
        raw = await execute(self._client, "HGET", self._keys.types, name)
        return _task_type(json.loads(raw)) if raw else None

    async def _read(self, key: str) -> dict[str, dict[str, Any]]:
        raw = cast("dict[bytes, bytes]", await execute(self._client, "HGETALL", key))
        return {name.decode(): json.loads(value) for name, value in raw.items()}


def _task_type(found: dict[str, Any]) -> TaskType:
    return TaskType(
        found["name"],
        found["description"],
        found["input_schema"],
        found.get("max_attempts"),
        on_worker_lost=found.get("on_worker_lost", "retry"),
        on_disconnect=found.get("on_disconnect", "continue"),
        queue=found.get("queue", "default"),
    )
