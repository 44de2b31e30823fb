"""A master and its replica behind one address, and failovers that lose a tail.

The address is a socket's path that leads to the master; after a failover it leads to the replica that was promoted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, Self, cast

from tests.e2e.product import unused_port
from tests.support.redis_server import RedisServer

_LINK_SECONDS: Final = 20.0


class Replicated:
    """Redis with one replica, which a test may freeze, promote, or leave behind."""

    def __init__(self, *, options: tuple[str, ...] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="reprise-pair-")
        self._address = Path(self._folder.name) / "redis.sock"
        quick = ("--repl-diskless-sync-delay", "0", *options)
        self.master = RedisServer(options=quick, port=unused_port())
        self.replica = RedisServer(options=(*quick, "--replicaof", f"127.0.0.1 {self.master.port}"))
        self.url = f"unix://{self._address}"

    def __enter__(self) -> Self:
        self.master.start()
        self.replica.start()
        self._lead_to(self.master)
        self.until_linked()
        return self

    def __exit__(self, *_: object) -> None:
        if self.replica.is_running:
            self.replica.resume()
        self.master.close()
        self.replica.close()
        self._folder.cleanup()

    def until_linked(self) -> None:
        """Wait until the replica has everything and is counted."""
        deadline = monotonic() + _LINK_SECONDS
        while not self._is_linked():
            assert monotonic() < deadline, "The replica does not follow."
            sleep(0.02)

    def leave_behind(self) -> None:
        """From now on the replica gets nothing more: it is a master of its own, and nobody knows yet."""
        self.replica.command("REPLICAOF", "NO", "ONE")

    def fail_over(self) -> None:
        """The master dies, and its address leads to the replica, which has been promoted."""
        self.replica.resume()
        self.replica.command("REPLICAOF", "NO", "ONE")
        self._lead_to(self.replica)
        self.master.kill()

    def _is_linked(self) -> bool:
        about_master = cast("dict[str, Any]", self.master.command("INFO", "replication"))
        about_replica = cast("dict[str, Any]", self.replica.command("INFO", "replication"))
        return about_master["connected_slaves"] == 1 and about_replica.get("master_link_status") == "up"

    def _lead_to(self, server: RedisServer) -> None:
        new = self._address.with_suffix(".new")
        new.symlink_to(server.url.removeprefix("unix://"))
        new.replace(self._address)
