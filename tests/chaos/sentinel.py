"""A master with two replicas, and three sentinels that replace it. Imports nothing of the product."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.announced import QUESTION_SECONDS, Announced
from tests.chaos.plan import SENTINELS, TOPOLOGIES
from tests.chaos.redis_node import RedisNode
from tests.support.waiting import wait_until

_NAME = "chaos"
_NODES = tuple(name for name in TOPOLOGIES["sentinel"].announced if name not in SENTINELS)
_SETTLE_SECONDS = 60.0
#: Three are asked, and a majority decides.
_QUORUM = 2


class WithSentinels(Announced):
    def __init__(self, clients: Sequence[str], folder: Path) -> None:
        super().__init__([*_NODES, *SENTINELS], folder)
        first = _NODES[0]
        for name in _NODES:
            lines = ["replica-announce-ip 127.0.0.1", f"replica-announce-port {self.port_of(name)}"]
            lines += ["repl-diskless-sync-delay 0", "repl-timeout 10"]
            if name != first:
                lines.append(f"replicaof 127.0.0.1 {self.port_of(first)}")
            self.add(name, *lines)
        for name in SENTINELS:
            lines = [
                "sentinel announce-ip 127.0.0.1",
                f"sentinel announce-port {self.port_of(name)}",
                f"sentinel monitor {_NAME} 127.0.0.1 {self.port_of(first)} {_QUORUM}",
                f"sentinel down-after-milliseconds {_NAME} 1000",
                f"sentinel failover-timeout {_NAME} 3000",
                f"sentinel parallel-syncs {_NAME} 2",
            ]
            self.add(name, *lines, is_sentinel=True)

    async def start(self) -> None:
        await self.open()
        await self.settled()

    def url_for(self, client: str) -> str:
        return f"redis+sentinel://{','.join(map(self.address_of, SENTINELS))}/{_NAME}/0"

    async def in_role(self, role: str) -> Sequence[RedisNode]:
        if role == "sentinel":
            return [self.nodes[name] for name in SENTINELS]
        master = await self._master()
        if role == "master":
            return [master] if master else []
        return [self.nodes[name] for name in _NODES if self.nodes[name] is not master]

    async def command(self, key: str, *words: str | int) -> Any:
        master = await self._master()
        if master is None:
            raise ConnectionError("No majority of the sentinels names a master.")
        return await master.command(*words)

    async def move_slot(self, key: str, choice: float) -> bool:
        raise NotImplementedError("One master has all slots.")

    async def settled(self) -> None:
        await wait_until(self._is_settled, description="sentinels and replicas are settled", timeout=_SETTLE_SECONDS)

    async def _master(self) -> RedisNode | None:
        """Whom a majority of the sentinels names."""
        asked = [self.nodes[name] for name in SENTINELS if self.nodes[name].is_up]
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _NAME)
        asking: list[Awaitable[Any]] = [each.command(*words, within=QUESTION_SECONDS) for each in asked]
        answers: list[Any] = await asyncio.gather(*asking, return_exceptions=True)
        votes = Counter(int(answer[1]) for answer in answers if answer and not isinstance(answer, BaseException))
        return next((self.at_port(port) for port, count in votes.items() if count >= _QUORUM), None)

    async def _is_settled(self) -> bool:
        try:
            master = await self._master()
            if master is None or (await master.command("ROLE", within=QUESTION_SECONDS))[0] != "master":
                return False
            if not all([await self._knows_all(self.nodes[name]) for name in SENTINELS]):
                return False
            return all([await self.follows(node) for node in self.servers if node is not master])
        except (OSError, RuntimeError):
            return False

    @staticmethod
    async def _knows_all(sentinel: RedisNode) -> bool:
        said = await sentinel.command("SENTINEL", "MASTER", _NAME, within=QUESTION_SECONDS)
        state = dict(zip(said[::2], said[1::2], strict=True))
        return (state["num-slaves"], state["num-other-sentinels"], state["flags"]) == ("2", "2", "master")
