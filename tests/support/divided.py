"""Two masters that both take writes, and three sentinels that hear nothing of each other: what a partition leaves.

Each sentinel knows of a failover when the test tells it so, and of none before; so a test decides who is behind.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

from tests.support.redis_node import RedisNode
from tests.support.waiting import wait_until

NAME = "reprise-master"
#: May look, and neither publish what it knows to other sentinels, nor listen to them, nor demote anybody, for which a
#: sentinel also kills clients.
_DEAF = "user deaf on >deaf ~* resetchannels -@all +ping +info +client -client|kill +auth +hello +role"


class Divided:
    """`old` is the master that all sentinels name at first; `new` was its replica and is promoted by `divide`."""

    def __init__(self) -> None:
        data = ["appendonly yes", "repl-diskless-sync-delay 0", _DEAF]
        self.old = RedisNode(*data)
        self.new = RedisNode(*data, f"replicaof 127.0.0.1 {self.old.port}")
        watch = [
            f"sentinel monitor {NAME} 127.0.0.1 {self.old.port} 2",
            f"sentinel down-after-milliseconds {NAME} 60000",
            f"sentinel auth-user {NAME} deaf",
            f"sentinel auth-pass {NAME} deaf",
        ]
        self.sentinels = [RedisNode(*watch, words=["--sentinel"]) for _ in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    async def divide(self) -> None:
        """From now on the new master has everything up to here and takes writes of its own; no sentinel knows."""
        await wait_until(self._is_linked, description="the replica follows", timeout=20)
        self.new.command("REPLICAOF", "NO", "ONE")

    def tell(self, *sentinels: RedisNode) -> None:
        """Let these hear of the failover, as another sentinel that saw it would say it."""
        witness = f"127.0.0.1,1,{'f' * 40},1"
        for sentinel in sentinels:
            sentinel.command("PUBLISH", "__sentinel__:hello", f"{witness},{NAME},127.0.0.1,{self.new.port},1")
            assert sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1] == str(self.new.port)

    def on_old_side(self) -> set[str]:
        """Names of the connections to the old master."""
        return set(re.findall(r" name=(\S*)", self.old.command("CLIENT", "LIST")))

    def close(self) -> None:
        for node in [*self.sentinels, self.old, self.new]:
            node.close()

    def _is_linked(self) -> bool:
        return self.new.info("replication").get("master_link_status") == "up"


@contextmanager
def divided() -> Generator[Divided]:
    """Five running processes, which are ended afterwards; the two masters are one yet."""
    found = Divided()
    try:
        for node in (found.old, found.new, *found.sentinels):
            node.start()
        yield found
    finally:
        found.close()
