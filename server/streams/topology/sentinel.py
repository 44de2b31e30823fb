"""Connections to the master that Sentinel names: asked for whenever one is made, and watched while any is open.

Invariant: a connection leads to the newest master that a majority of the sentinels can tell of. One that leads
elsewhere is cut as soon as that is known, also if it looks healthy: behind a partition the old master answers on, and
what it is told is lost when it comes back as a replica. Whoever used the connection finds it lost, and dials again.
Source: redis.io, "Sentinel client spec"; SENTINEL MASTER, SENTINEL GET-MASTER-ADDR-BY-NAME, ROLE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final, cast
from weakref import WeakSet

import hiredis
import redis.asyncio
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from server.streams.cancelling import cancel_all
from server.streams.topology.address import Address, Host
from server.streams.topology.belief import Named, is_enough, newest, questions, read_master
from server.streams.topology.node import NodeClient, client_of, node_client, options_for, pool_options, transport_of
from server.streams.topology.watching import keep_looking

_log = logging.getLogger(__name__)

#: A sentinel that takes longer is as good as dead: there are others.
SENTINEL_TIMEOUT_SECONDS: Final = 1.0
#: How long a connection to a master that was replaced may go unnoticed; a failover takes longer.
LOOK_SECONDS: Final = 1.0


def nobody_knows(address: Address, faults: Iterable[Exception]) -> RedisConnectionError:
    """The error of a look that led nowhere."""
    asked = ", ".join(map(str, address.hosts))
    why = "; ".join(dict.fromkeys(str(fault) or type(fault).__name__ for fault in faults))
    return RedisConnectionError(f"no sentinel of {asked} named the master {address.service!r}: {why}")


class Sentinels:
    """Those that watch over one master. Belongs to one event loop; its owner closes it."""

    def __init__(self, address: Address, *, name: str, tells_of_moves: bool = True) -> None:
        self._address = address
        self._tells_of_moves = tells_of_moves
        self._clients = [node_client(address.url_of_sentinel(host), **_options(name)) for host in address.hosts]
        self._look: asyncio.Task[Named] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._known: Named | None = None
        self._is_closed = False
        #: Every connection to a master, wherever it is in use.
        self._connections: WeakSet[_ToMaster] = WeakSet()

    async def master(self) -> Host:
        """Where the master is now. Raises `RedisError`."""
        if self._is_closed:  # nobody would end what is begun now
            raise RedisConnectionError("no sentinel is asked any more, for the client is closed")
        if self._watch is None:
            looking = keep_looking(self.master, every_seconds=LOOK_SECONDS, at="the sentinels")
            self._watch = asyncio.create_task(looking, name="sentinels are asked")
        if self._look is None:
            self._look = asyncio.create_task(self._ask_all(), name="sentinels look")
            self._look.add_done_callback(self._looked)
        return (await asyncio.shield(self._look)).host  # shared: whoever leaves must not stop it for the others

    def dialled(self, connection: _ToMaster) -> None:
        """Watch over a connection."""
        self._connections.add(connection)

    async def aclose(self) -> None:
        """Ask no more. Connections to the master are closed by those who use them."""
        self._is_closed = True
        await cancel_all([task for task in (self._watch, self._look) if task])
        for client in self._clients:
            await client.aclose()

    def _looked(self, look: asyncio.Task[Named]) -> None:
        self._look = None
        if look.cancelled() or look.exception():
            return
        found = look.result()
        if self._tells_of_moves and self._known is not None and found.host != self._known.host:
            _log.warning("The master is %s now; it was %s", found.host, self._known.host)
        self._known = found
        for connection in list(self._connections):
            if connection.leads_elsewhere(found.host):
                connection.cut()

    async def _ask_all(self) -> Named:
        asking = [asyncio.create_task(_ask(client, self._address.service)) for client in self._clients]
        answers: list[Named] = []
        faults: list[Exception] = []
        try:
            for each in asyncio.as_completed(asking):
                try:
                    answers.append(await each)
                except (RedisError, OSError) as error:  # a timeout is an OSError
                    faults.append(error)
                if is_enough(answers, of=len(asking), known=self._known):
                    break  # the rest may be dead
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if not answers:
            raise nobody_knows(self._address, faults)
        return newest(answers, of=len(asking), known=self._known)


class _ToMaster(Connection):
    """A connection that asks where to go before it dials, and makes sure that it got there."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]

    async def _connect(self) -> None:
        found = await self._sentinels.master()
        self.host, self.port = found.name, found.port
        await super()._connect()
        self._sentinels.dialled(self)

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 (redis-py's)
        await super().on_connect_check_health(check_health)
        await self.send_command("ROLE", check_health=False)
        role = cast("list[Any]", await self.read_response())
        if role[0] not in {b"master", "master"}:
            raise RedisConnectionError(f"Redis at {self.host}:{self.port} is no master, though a sentinel says so")

    def leads_elsewhere(self, master: Host) -> bool:
        return self.is_connected and (self.host, self.port) != (master.name, master.port)

    def cut(self) -> None:
        """Whoever reads from it finds it lost."""
        transport_of(self).abort()


class _ToMasterByTls(_ToMaster, SSLConnection):
    pass


def master_client(
    address: Address, *, name: str, socket_timeout: float | None, tells_of_moves: bool = True
) -> NodeClient:
    """A client of the present master, whichever server that is; with `tells_of_moves` the log says which."""
    sentinels = Sentinels(address, name=name, tells_of_moves=tells_of_moves)
    options: dict[str, Any] = {**options_for(address, name=name, socket_timeout=socket_timeout), **pool_options()}
    options.update(cast("dict[str, Any]", parse_url(address.url_of(address.hosts[0]))))
    options["connection_class"] = _ToMasterByTls if address.has_tls else _ToMaster
    client = client_of(redis.asyncio.BlockingConnectionPool(**options, sentinels=sentinels))
    client.closing = sentinels.aclose
    return client


async def _ask(client: NodeClient, service: str) -> Named:
    async with asyncio.timeout(SENTINEL_TIMEOUT_SECONDS):
        try:
            about, address = await client.execute_packed(questions(service))
        except hiredis.HiredisError as error:  # what came is no reply of Redis
            raise RedisConnectionError(f"a sentinel answered with what cannot be read: {error}") from error
    return read_master(about, address)


def _options(name: str) -> dict[str, Any]:
    """Sentinels have no part in the password of the master."""
    return options_for(None, name=name, socket_timeout=SENTINEL_TIMEOUT_SECONDS)
