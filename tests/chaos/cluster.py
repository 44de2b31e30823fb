"""A Cluster of three masters and a replica of each, whose slots can be moved. Imports nothing of the product."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.announced import QUESTION_SECONDS, Announced
from tests.chaos.keys import SLOTS, slot_of
from tests.chaos.plan import TOPOLOGIES
from tests.chaos.redis_node import RedisNode
from tests.e2e.product import unused_port
from tests.support.waiting import wait_until

_NODES = TOPOLOGIES["cluster"].announced
_MASTERS = 3
_SETTLE_SECONDS = 60.0
_MIGRATE_MS = 3000
#: A slot that was left half moved is moved on until it has arrived, as `redis-cli --cluster fix` does.
_MOVE_AGAIN_SECONDS = 0.5


class Clustered(Announced):
    def __init__(self, clients: Sequence[str], folder: Path) -> None:
        super().__init__(_NODES, folder)
        self._buses: dict[str, int] = {}
        for name in _NODES:
            while (bus := unused_port()) in {*self._buses.values(), *self._ports()}:
                pass
            self._buses[name] = bus
            lines = ["cluster-enabled yes", "cluster-node-timeout 1500", f"cluster-port {bus}"]
            lines += ["cluster-announce-ip 127.0.0.1", f"cluster-announce-port {self.port_of(name)}"]
            lines += [f"cluster-announce-bus-port {bus}", "cluster-config-file nodes.conf", "repl-timeout 10"]
            lines += ["repl-diskless-sync-delay 0", "cluster-replica-validity-factor 0"]
            lines += ["cluster-allow-replica-migration no"]
            self.add(name, *lines)

    def _ports(self) -> set[int]:
        return {port for link in self.links.values() for port in (link.port, link.upstream)}

    async def start(self) -> None:
        await self.open()
        nodes = self.servers
        for number, node in enumerate(nodes):
            await node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        first = nodes[0]
        for node in nodes[1:]:
            await node.command("CLUSTER", "MEET", "127.0.0.1", self.port_of(first.name), self._buses[first.name])
        for number, node in enumerate(nodes[:_MASTERS]):
            start, end = number * SLOTS // _MASTERS, (number + 1) * SLOTS // _MASTERS - 1
            await node.command("CLUSTER", "ADDSLOTSRANGE", start, end)
        await wait_until(self._know_each_other, description="the nodes know each other", timeout=_SETTLE_SECONDS)
        for master, replica in zip(nodes[:_MASTERS], nodes[_MASTERS:], strict=True):
            await replica.command("CLUSTER", "REPLICATE", await self._id_of(master))
        await self.settled()

    def url_for(self, client: str) -> str:
        return f"redis+cluster://{','.join(map(self.address_of, _NODES))}"

    async def in_role(self, role: str) -> Sequence[RedisNode]:
        masters = await self._masters()
        if role == "master":
            return masters
        return [node for node in self.servers if node not in masters]

    async def command(self, key: str, *words: str | int) -> Any:
        return await (await self._owner(slot_of(key))).command(*words)

    async def slots_of(self, node: RedisNode) -> frozenset[int] | None:
        ranges = await node.command("CLUSTER", "SLOTS", within=QUESTION_SECONDS)
        return frozenset(
            slot
            for first, last, master, *_ in ranges
            if self.at_port(master[1]) is node
            for slot in range(first, last + 1)
        )

    async def move_slot(self, key: str, choice: float) -> bool:
        slot, was_smooth = slot_of(key), True
        source, target = await self._ends_of_move(slot, choice)
        while source is not target:
            try:
                await self._move(slot, source, target)
                break
            except (OSError, RuntimeError):
                was_smooth = False
                await asyncio.sleep(_MOVE_AGAIN_SECONDS)
            source, target = await self._ends_of_move(slot, choice, towards=target)
        return was_smooth

    async def settled(self) -> None:
        await wait_until(self._is_settled, description="the Cluster is settled", timeout=_SETTLE_SECONDS)

    async def _ends_of_move(
        self, slot: int, choice: float, *, towards: RedisNode | None = None
    ) -> tuple[RedisNode, RedisNode]:
        """Who has it and who shall have it; that is who replaced the one it went `towards` at first."""
        while True:
            try:
                source, masters = await self._owner(slot), await self._masters()
                if towards and towards in masters:
                    return source, towards
                others = [node for node in masters if node is not source]
                return source, others[int(choice * len(others)) % len(others)]
            except (OSError, RuntimeError, ZeroDivisionError):
                await asyncio.sleep(_MOVE_AGAIN_SECONDS)

    async def _move(self, slot: int, source: RedisNode, target: RedisNode) -> None:
        """As redis-cli does it. What is there already was left by a move that was interrupted: it is older."""
        source_id, target_id = await self._id_of(source), await self._id_of(target)
        await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := await source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            words = ("MIGRATE", "127.0.0.1", target.port, "", 0, _MIGRATE_MS, "REPLACE", "KEYS", *keys)
            await source.command(*words)
        await target.command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        await source.command("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    async def _owner(self, slot: int) -> RedisNode:
        """Who has the slot, as most nodes say. Raises `OSError`."""
        votes = Counter(
            master[1] for ranges in await self._maps() for first, last, master, *_ in ranges if first <= slot <= last
        )
        found = self.at_port(votes.most_common(1)[0][0]) if votes else None
        if found is None:
            raise ConnectionError(f"No node knows who has slot {slot}.")
        return found

    async def _masters(self) -> list[RedisNode]:
        """Who has slots, as most nodes say."""
        maps = await self._maps()
        votes = Counter(port for ranges in maps for port in {master[1] for _, _, master, *_ in ranges})
        return [node for node in self.servers if votes[self.port_of(node.name)] * 2 > len(maps)]

    async def _maps(self) -> list[Any]:
        words = ("CLUSTER", "SLOTS")
        asking: list[Awaitable[Any]] = [
            node.command(*words, within=QUESTION_SECONDS) for node in self.servers if node.is_up
        ]
        return [each for each in await asyncio.gather(*asking, return_exceptions=True) if isinstance(each, list)]

    @staticmethod
    async def _id_of(node: RedisNode) -> str:
        return str(await node.command("CLUSTER", "MYID"))

    async def _know_each_other(self) -> bool:
        for node in self.servers:
            ranges, shards = await node.command("CLUSTER", "SLOTS"), await node.command("CLUSTER", "SHARDS")
            if (len(ranges), len(shards)) != (_MASTERS, len(_NODES)):
                return False
        return True

    async def _is_settled(self) -> bool:
        try:
            masters = await self._masters()
            for node in self.servers:
                if "cluster_state:ok" not in await node.command("CLUSTER", "INFO", within=QUESTION_SECONDS):
                    return False
                if node not in masters and not await self.follows(node):
                    return False
            return len(masters) == _MASTERS
        except (OSError, RuntimeError):
            return False
