"""The same as `sentinel` for threads: a client of whichever server is the master now.

Without a task of its own that watches: when a connection is taken from the pool and the last look at the sentinels is
older than a second, they are asked first; one after the other, and who did not answer last time comes last.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    parse_url,  # pyright: ignore[reportUnknownVariableType]
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from server.streams.topology.address import Address, Host
from server.streams.topology.belief import Named, is_enough, newest, questions, read_master
from server.streams.topology.node import options_for, sync_node_client
from server.streams.topology.sentinel import LOOK_SECONDS, SENTINEL_TIMEOUT_SECONDS, nobody_knows


class SyncSentinels:
    """Those that watch over one master; for one thread."""

    def __init__(self, address: Address, *, name: str) -> None:
        self._address = address
        options = options_for(None, name=name, socket_timeout=SENTINEL_TIMEOUT_SECONDS)
        self._clients = {host: sync_node_client(address.url_of_sentinel(host), **options) for host in address.hosts}
        #: Those that did not answer last time.
        self._silent: set[Host] = set()
        self._known: Named | None = None
        self._looked_at = monotonic()

    def master(self) -> Host:
        """Where the master is now. Raises `RedisError`."""
        self._looked_at = monotonic()
        answers: list[Named] = []
        faults: list[Exception] = []
        for host in sorted(self._clients, key=lambda each: each in self._silent):
            try:
                answers.append(self._ask(host))
                self._silent.discard(host)
            except (RedisError, OSError) as error:
                faults.append(error)
                self._silent.add(host)
            if is_enough(answers, of=len(self._clients), known=self._known):
                break
        if not answers:
            raise nobody_knows(self._address, faults)
        self._known = newest(answers, of=len(self._clients), known=self._known)
        return self._known.host

    def _ask(self, host: Host) -> Named:
        client = cast("Any", self._clients[host])
        return read_master(*(client.execute_command(*words) for words in questions(self._address.service)))

    def has_moved(self) -> bool:
        """Whether the master is another one than at the last look; asks once a second at most."""
        before = self._known
        if before is None or monotonic() - self._looked_at < LOOK_SECONDS:
            return False
        try:
            return self.master() != before.host
        except RedisError:
            return False  # no news: connections stay as they are

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


class _ToMaster(Connection):
    def __init__(self, *, sentinels: SyncSentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]

    def _connect(self) -> Any:
        found = self._sentinels.master()
        self.host, self.port = found.name, found.port
        return super()._connect()

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 (redis-py's)
        super().on_connect_check_health(check_health)
        self.send_command("ROLE", check_health=False)  # pyright: ignore[reportUnknownMemberType]
        role = cast("list[Any]", self.read_response())
        if role[0] not in {b"master", "master"}:
            raise RedisConnectionError(f"Redis at {self.host}:{self.port} is no master, though a sentinel says so")


class _ToMasterByTls(_ToMaster, SSLConnection):
    pass


class _Pool(ConnectionPool):
    def __init__(self, *, sentinels: SyncSentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(sentinels=sentinels, **options)  # pyright: ignore[reportUnknownMemberType]

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        if self._sentinels.has_moved():
            self.disconnect(inuse_connections=False)
        return super().get_connection()  # pyright: ignore[reportUnknownMemberType]

    def close(self) -> None:
        super().close()
        self._sentinels.close()


def sync_master_client(address: Address, *, name: str, socket_timeout: float | None) -> redis.Redis:
    """A client of the present master, whichever server that is, for threads."""
    options = options_for(address, name=name, socket_timeout=socket_timeout)
    options.update(cast("dict[str, Any]", parse_url(address.url_of(address.hosts[0]))))
    options["connection_class"] = _ToMasterByTls if address.has_tls else _ToMaster
    options["retry"] = Retry(NoBackoff(), 0)
    pool = _Pool(sentinels=SyncSentinels(address, name=name), **options)
    return redis.Redis.from_pool(pool)
