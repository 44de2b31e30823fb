"""A master with two replicas, and three sentinels that watch over them: what a failover needs to be a real one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from redis.exceptions import RedisError

from tests.support.certificates import Certificates
from tests.support.redis_node import RedisNode
from tests.support.waiting import wait_until

NAME = "reprise-master"
#: Short, for a test waits so long; and above what a busy machine may keep a master from answering.
_DOWN_AFTER_MS = 2000


class Sentinels:
    """Six processes. The first data node begins as the master."""

    def __init__(
        self,
        *,
        lines: tuple[str, ...] = (),
        auth: tuple[str, str] | None = None,
        watcher: tuple[str, str] | None = None,
        follower: tuple[str, str] | None = None,
        tls: Certificates | None = None,
    ) -> None:
        """`lines` are added to the configuration of data nodes; `auth` is the user that the test logs in as.

        Sentinels log in as `watcher`, replicas as `follower`; without them as `auth`.
        """
        watcher, follower = watcher or auth, follower or auth
        credentials = {"username": auth[0], "password": auth[1]} if auth else {}
        data = ["appendonly yes", "appendfsync everysec", "repl-diskless-sync-delay 0", *lines]
        if follower:
            data += [f"masteruser {follower[0]}", f"masterauth {follower[1]}"]
        first = RedisNode(*data, credentials=dict(credentials), tls=tls)
        follows = f"replicaof 127.0.0.1 {first.port}"
        self.nodes = [first, *(RedisNode(*data, follows, credentials=dict(credentials), tls=tls) for _ in range(2))]
        watch = [
            f"sentinel monitor {NAME} 127.0.0.1 {first.port} 2",
            f"sentinel down-after-milliseconds {NAME} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} 3000",
            f"sentinel parallel-syncs {NAME} 2",
        ]
        if watcher:
            watch += [f"sentinel auth-user {NAME} {watcher[0]}", f"sentinel auth-pass {NAME} {watcher[1]}"]
        self.sentinels = [RedisNode(*watch, words=["--sentinel"], tls=tls) for _ in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    @property
    def master(self) -> RedisNode:
        """As the first sentinel that runs tells it."""
        sentinel = next(each for each in self.sentinels if each.is_running)
        _, port = sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(node for node in self.nodes if node.port == int(port))

    @property
    def replicas(self) -> list[RedisNode]:
        master = self.master
        return [node for node in self.nodes if node is not master]

    async def settled(self) -> None:
        """Wait until every sentinel knows all others and both replicas, which have all of the master's data."""
        await wait_until(self._is_settled, description="sentinels and replicas are settled", timeout=90)

    async def switched(self, before: RedisNode) -> RedisNode:
        """Wait until there is another master that takes writes; return it."""

        def other() -> RedisNode | None:
            found = self.master
            try:
                is_master = found is not before and found.command("ROLE")[0] == "master"
            except (RedisError, OSError):
                return None
            return found if is_master else None

        found = await wait_until(other, description="another master", timeout=90)
        assert found
        return found

    def close(self) -> None:
        for node in [*self.sentinels, *self.nodes]:
            node.close()

    def _is_settled(self) -> bool:
        try:
            states = [_pairs(sentinel.command("SENTINEL", "MASTER", NAME)) for sentinel in self.sentinels]
            if not all((state["num-slaves"], state["num-other-sentinels"]) == ("2", "2") for state in states):
                return False
            if not all(state["flags"] == "master" for state in states):
                return False
            replicas = [each.info("replication") for each in self.replicas]
        except (RedisError, OSError):
            return False
        return all(each.get("master_link_status") == "up" for each in replicas)


def _pairs(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return dict(zip(reply[::2], reply[1::2], strict=True))


@contextmanager
def sentinels(**options: Any) -> Generator[Sentinels]:
    """Six running processes, which are ended afterwards; not settled yet. `options` are those of `Sentinels`."""
    found = Sentinels(**options)
    with ExitStack() as stack:
        stack.callback(found.close)
        for node in [*found.nodes, *found.sentinels]:
            node.start()
        yield found
