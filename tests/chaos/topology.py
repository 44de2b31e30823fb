"""Where the log is kept, and every way that leads there: the seam at which one Redis, Sentinel or Cluster differ.

A topology owns its Redis processes and the links between them and their clients. It says what REPRISE_REDIS_URL each
client gets; where nodes tell clients each other's addresses (Sentinel, Cluster), they tell those of its links.
Imports nothing of the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.chronicle import Chronicle
from tests.chaos.links import Link
from tests.chaos.redis_node import RedisNode
from tests.e2e.product import unused_port


class Topology(Protocol):
    @property
    def nodes(self) -> Mapping[str, RedisNode]:
        """Every process, by its own name."""
        ...

    @property
    def links(self) -> Mapping[str, Link]:
        """The ways of the clients, by the names that plans use: `link:<client>`, or `link:<node>` if all share it."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    def url_for(self, client: str) -> str:
        """REPRISE_REDIS_URL of one process."""
        ...

    async def in_role(self, role: str) -> Sequence[RedisNode]:
        """Which processes have a role now, by the names that plans use; in the middle of a failover perhaps none."""
        ...

    async def command(self, key: str, *words: str | int) -> Any:
        """Send a command to the node that holds the key, past every link."""
        ...

    async def flush(self) -> None:
        """Empty all of it."""
        ...

    async def move_slot(self, key: str, choice: float) -> bool:
        """Move the slot of a key to another master; whether nothing came between. `choice`, 0 to 1, says to which."""
        ...

    async def watch(self, chronicle: Chronicle, clock: Callable[[], float]) -> None:
        """Write into the chronicle, until cancelled, what nodes do among themselves."""
        ...

    async def settled(self) -> None:
        """Wait until every node that runs agrees with the others."""
        ...


class OneRedis:
    """One server, and a link to it for each client."""

    def __init__(self, clients: Sequence[str], folder: Path) -> None:
        self._node = RedisNode("redis", unused_port(), folder)
        self.nodes: Mapping[str, RedisNode] = {self._node.name: self._node}
        self.links: Mapping[str, Link] = {f"link:{name}": Link(f"link:{name}", self._node.port) for name in clients}

    async def start(self) -> None:
        await self._node.start()
        for link in self.links.values():
            await link.open()

    async def close(self) -> None:
        for link in self.links.values():
            await link.close()
        await self._node.kill()

    def url_for(self, client: str) -> str:
        return f"redis://127.0.0.1:{self.links[f'link:{client}'].port}/0"

    async def in_role(self, role: str) -> Sequence[RedisNode]:
        return [self._node]

    async def command(self, key: str, *words: str | int) -> Any:
        return await self._node.command(*words)

    async def flush(self) -> None:
        await self._node.command("FLUSHALL")

    async def move_slot(self, key: str, choice: float) -> bool:
        raise NotImplementedError("One Redis has no slots.")

    async def watch(self, chronicle: Chronicle, clock: Callable[[], float]) -> None:
        """It does nothing by itself."""

    async def settled(self) -> None:
        """It has nobody to agree with."""
