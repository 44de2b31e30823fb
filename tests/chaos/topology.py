"""Where the log is kept, and every way that leads there: the seam at which one Redis, Sentinel or Cluster differ.

A topology owns its Redis processes and the links between them and their clients. It says what REPRISE_REDIS_URL each
client gets; where nodes tell clients each other's addresses (Sentinel, Cluster), they must tell those of its links.
Imports nothing of the product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.links import Link
from tests.chaos.redis_node import RedisNode
from tests.e2e.product import unused_port


class Topology(Protocol):
    @property
    def nodes(self) -> Mapping[str, RedisNode]:
        """What can be struck, by the names that plans use."""
        ...

    @property
    def links(self) -> Mapping[str, Link]:
        """The ways of the clients, by the names that plans use: `link:<client>`."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    def url_for(self, client: str) -> str:
        """REPRISE_REDIS_URL of one process."""
        ...

    async def command(self, key: str, *words: str | int) -> Any:
        """Send a command to the node that holds the key, past every link."""
        ...

    async def flush(self) -> None:
        """Empty all of it."""
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

    async def command(self, key: str, *words: str | int) -> Any:
        return await self._node.command(*words)

    async def flush(self) -> None:
        await self._node.command("FLUSHALL")
