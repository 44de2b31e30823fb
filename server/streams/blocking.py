"""Blocking reads at several nodes of a Cluster at once, for keys that one command cannot name together.

Invariant: no read is cut off, for what it was just given would lie with a consumer that does not know of it. Once one
read has an answer the others are told to give up by CLIENT UNBLOCK: Redis answers them, with nothing or with what came
in the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import MovedError, RedisError

from server.streams.cancelling import cancel_all
from server.streams.connections import unavailable
from server.streams.topology.address import Host
from server.streams.topology.cluster import ClusterClient
from server.streams.topology.node import Command
from server.streams.topology.slots import key_of, redirected_to, slot_of

#: One that was not waiting yet when it was told is told again.
_AGAIN_SECONDS: Final = 0.05


class _Read:
    """One read on a connection of its own."""

    def __init__(self, cluster: ClusterClient, command: Command) -> None:
        self._cluster = cluster
        self._command = command
        self._host: Host | None = None
        self._connection_id: Any = None

    async def run(self) -> Any:
        host = await self._cluster.owner(slot_of(key_of(self._command) or b""))
        try:
            async with self._cluster.node(host).client() as found:
                connection: Any = found
                connection_id = await connection.execute_command("CLIENT", "ID")
                self._host, self._connection_id = host, connection_id
                try:
                    return await connection.execute_command(*self._command)
                finally:
                    self._connection_id = None
        except MovedError as error:
            self._cluster.moved(error.slot_id, redirected_to(error, asked=host))
            return None
        except (RedisError, OSError):
            self._cluster.look_soon()
            raise

    async def give_up(self) -> None:
        if self._host is not None and self._connection_id is not None:
            await self._cluster.node(self._host).execute_command("CLIENT", "UNBLOCK", self._connection_id)


async def read_first(cluster: ClusterClient, commands: Sequence[Command]) -> list[Any]:
    """Replies of blocking reads, once one has something or all gave up. Raises `LogUnavailable` if nothing came."""
    reads = [_Read(cluster, command) for command in commands]
    running: dict[asyncio.Task[Any], _Read] = {
        asyncio.create_task(read.run(), name="blocking read"): read for read in reads
    }
    try:
        done: set[asyncio.Task[Any]]
        waiting: set[asyncio.Task[Any]]
        done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        while waiting:
            await asyncio.gather(*(running[each].give_up() for each in waiting), return_exceptions=True)
            more, waiting = await asyncio.wait(waiting, timeout=_AGAIN_SECONDS)
            done |= more
    finally:
        await cancel_all(running)
        await asyncio.gather(*running, return_exceptions=True)  # what they raised is heard
    errors = [error for each in done if (error := each.exception())]
    replies = [reply for each in done if not each.exception() and (reply := each.result())]
    if errors and not replies:
        if isinstance(errors[0], (RedisError, OSError)):
            raise unavailable(errors[0]) from errors[0]
        raise errors[0]
    return replies  # what was taken before an error is ours
