"""Nodes that announce the far ends of links as their own addresses, so that every way to each of them can be spoilt.

One link leads to each node: clients, sentinels and replicas all take it, for they are told no other address. What it
does not carry is the bus of a Cluster, on which nodes vote, and what this suite asks and does itself. Imports nothing
of the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.chronicle import Chronicle
from tests.chaos.failovers import FailoverWatch, read_info
from tests.chaos.links import Link
from tests.chaos.redis_node import RedisNode
from tests.e2e.product import unused_port

#: For a question: a node that was struck in that moment answers nothing.
QUESTION_SECONDS = 1.0
_ADDRESS = "127.0.0.1"


class Announced:
    """Base of topologies with several nodes. `names` are those of their processes."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._folder = folder
        ports: list[int] = []
        while len(ports) < 2 * len(names):
            port = unused_port()
            if port not in ports:
                ports.append(port)
        self.links = {
            f"link:{name}": Link(f"link:{name}", ports[2 * n], port=ports[2 * n + 1]) for n, name in enumerate(names)
        }
        self.nodes: dict[str, RedisNode] = {}

    def add(self, name: str, *lines: str, is_sentinel: bool = False) -> None:
        """Set up one process; its configuration has to announce `port_of`."""
        node = RedisNode(name, self.links[f"link:{name}"].upstream, self._folder, *lines, is_sentinel=is_sentinel)
        self.nodes[name] = node

    @property
    def servers(self) -> list[RedisNode]:
        """Those with data."""
        return [node for node in self.nodes.values() if not node.is_sentinel]

    def port_of(self, name: str) -> int:
        """The one that is announced."""
        return self.links[f"link:{name}"].port

    def address_of(self, name: str) -> str:
        return f"{_ADDRESS}:{self.port_of(name)}"

    def at_port(self, port: int) -> RedisNode | None:
        """The node that announces this port."""
        return next((node for name, node in self.nodes.items() if self.port_of(name) == port), None)

    async def open(self) -> None:
        """Start every process, and open the ways to them."""
        for link in self.links.values():
            await link.open()
        for node in self.nodes.values():
            await node.start()

    async def close(self) -> None:
        for link in self.links.values():
            await link.close()
        for node in self.nodes.values():
            await node.kill()

    async def flush(self) -> None:
        raise NotImplementedError("Several servers are not emptied at once.")

    async def slots_of(self, node: RedisNode) -> frozenset[int] | None:
        """Which slots a server has; None for everything."""
        return None

    async def watch(self, chronicle: Chronicle, clock: Callable[[], float]) -> None:
        await FailoverWatch(self.servers, chronicle, clock, self.slots_of).run()

    async def follows(self, node: RedisNode) -> bool:
        """Whether it is a replica that has all its master has. Raises as `command` does."""
        said = read_info(await node.command("INFO", "replication", within=QUESTION_SECONDS))
        return said["role"] == "slave" and said["master_link_status"] == "up"
