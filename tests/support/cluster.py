"""A Cluster of six nodes: three that own the slots and a replica of each. A test may kill them and move slots."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import RedisError, ResponseError

from server.streams.topology.slots import SLOTS, slot_of
from tests.support.certificates import Certificates
from tests.support.redis_node import RedisNode
from tests.support.waiting import wait_until

#: Short, for a test waits so long until a node that is gone is replaced; and above what a busy machine may keep a node
#: from answering, for one that is there must not be replaced.
_NODE_TIMEOUT_MS = 2500


class Cluster:
    """Six processes. Which of them are masters changes."""

    def __init__(self, *, tls: Certificates | None = None) -> None:
        lines = ["cluster-enabled yes", f"cluster-node-timeout {_NODE_TIMEOUT_MS}", "cluster-config-file nodes.conf"]
        lines += ["appendonly yes", "appendfsync everysec", "repl-diskless-sync-delay 0"]
        lines += ["cluster-replica-validity-factor 0", "cluster-allow-replica-migration no"]
        self.nodes = [RedisNode(*lines, tls=tls, bus=True) for _ in range(6)]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes[:3])}"

    async def form(self) -> None:
        """Make one Cluster of the nodes."""
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            node.start()
            try:
                node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            except ResponseError as error:
                if "already non-zero" not in str(error):  # sent twice, for the first reply was lost
                    raise
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        for number, node in enumerate(self.nodes[:3]):
            start, end = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", start, end)
        await wait_until(self._know_each_other, description="the nodes know each other", timeout=90)
        for master, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            replica.command("CLUSTER", "REPLICATE", self.id_of(master))
        await self.settled()

    def id_of(self, node: RedisNode) -> str:
        return str(node.command("CLUSTER", "MYID"))

    def owner(self, key: str) -> RedisNode:
        """The node that has the slot of this key, as a majority of running nodes says."""
        slot, votes = slot_of(key), dict[int, int]()
        for node in self.running:
            for first, last, master, *_ in node.command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    votes[master[1]] = votes.get(master[1], 0) + 1
        port = max(votes, key=lambda each: votes[each])
        return next(node for node in self.nodes if node.port == port)

    @property
    def running(self) -> list[RedisNode]:
        return [node for node in self.nodes if node.is_running and not node.is_paused]

    @property
    def masters(self) -> list[RedisNode]:
        return [node for node in self.running if node.command("ROLE")[0] == "master"]

    async def settled(self) -> None:
        """Wait until all slots are served, and every running replica has its master's data."""
        await wait_until(self._is_settled, description="the Cluster is settled", timeout=90)

    async def replaced(self, before: RedisNode, key: str) -> RedisNode:
        """Wait until another node has the slot of the key; return it."""
        await wait_until(lambda: self.owner(key) is not before, description="a replica is promoted", timeout=90)
        return self.owner(key)

    def move_slot(self, slot: int, source: RedisNode, target: RedisNode, *, between: Any = None) -> None:
        """Move a slot and its keys, as redis-cli does; `between` is called while keys are on both nodes."""
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            if between:
                between()
        for node in (target, source, *self.masters):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def _know_each_other(self) -> bool:
        return all(
            len(node.command("CLUSTER", "SLOTS")) == 3 and len(node.command("CLUSTER", "SHARDS")) == 6
            for node in self.nodes
        )

    def _is_settled(self) -> bool:
        try:
            for node in self.running:
                info = str(node.command("CLUSTER", "INFO"))
                if "cluster_state:ok" not in info.replace("'cluster_state': 'ok'", "cluster_state:ok"):
                    return False
                role = node.command("ROLE")
                if role[0] != "master" and role[3] != "connected":
                    return False
            return len(self.masters) == 3
        except (RedisError, OSError):
            return False


@asynccontextmanager
async def clustered(*, tls: Certificates | None = None) -> AsyncGenerator[Cluster]:
    """A settled Cluster, which is ended afterwards."""
    found = Cluster(tls=tls)
    try:
        await found.form()
        yield found
    finally:
        found.close()
