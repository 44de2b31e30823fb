"""Connections to the master that Sentinel names: asked for whenever one is made, and watched while any is open.

Invariant: a connection leads to the newest master that a majority of the sentinels can tell of. One that leads
elsewhere is cut as soon as that is known, also if it looks healthy: behind a partition the old master answers on, and
what it is told is lost when it comes back as a replica. Whoever used the connection finds it lost, and dials again.
Source: redis.io, "Sentinel client spec"; SENTINEL MASTER, SENTINEL GET-MASTER-ADDR-BY-NAME, ROLE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast
from weakref import WeakSet

import redis.asyncio
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from server.streams.cancelling import cancel_all
from server.streams.jitter import jitter
from server.streams.topology.address import Address, Host
from server.streams.topology.node import NodeClient, client_of, node_client, options_for, pool_options, transport_of

_log = logging.getLogger(__name__)

#: A sentinel that takes longer is as good as dead: there are others.
SENTINEL_TIMEOUT_SECONDS: Final = 1.0
#: How long a connection to a master that was replaced may go unnoticed; a failover takes longer.
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, order=True)
class Named:
    """A master, as one sentinel knows it."""

    #: Counts the failovers: the higher one is newer.
    epoch: int
    host: Host


def questions(service: str) -> list[tuple[str, str, str]]:
    """The commands whose replies `read_answer` takes.

    Two, for the sentinel that leads a failover counts it as soon as the replica is promoted, but until all replicas
    have followed, SENTINEL MASTER goes on naming the old master.
    """
    return [("SENTINEL", "MASTER", service), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)]


def read_answer(about: Any, address: Any) -> Named:
    """What a sentinel says. Raises `RedisError` for what is no such answer."""
    for reply in (about, address):
        if isinstance(reply, Exception):
            raise RedisConnectionError(str(reply))
    if isinstance(about, list):  # RESP2
        parts = cast("list[bytes]", about)
        about = dict(zip(parts[::2], parts[1::2], strict=True))
    fields = {_text(name): _text(value) for name, value in cast("Mapping[Any, Any]", about).items()}
    try:
        name, port = map(_text, address)
        return Named(int(fields.get("config-epoch", 0)), Host(name, int(port)))
    except (TypeError, ValueError) as error:
        raise RedisConnectionError(f"a sentinel named the master {address!r}") from error


def is_enough(answers: Sequence[Named], *, of: int, known: Named | None) -> bool:
    """Whether the rest need not be waited for: a majority answered, and one of it knows what was known before.

    The news of a failover takes a second from one sentinel to the other, and who has not heard it names the old master.
    """
    return len(answers) * 2 > of and (known is None or max(answers).epoch >= known.epoch)


def newest(answers: Sequence[Named], *, of: int, known: Named | None) -> Named:
    """The master to go to, by what those said who answered.

    While one is silent that may know of the last failover, those that have not heard of it lead nobody back. When all
    have answered and none knows of it, they were set up anew and begin to count again.
    """
    found = max(answers)
    return known if known is not None and found.epoch < known.epoch and len(answers) < of else found


def nobody_knows(address: Address, faults: Iterable[Exception]) -> RedisConnectionError:
    """The error of a look that led nowhere."""
    asked = ", ".join(map(str, address.hosts))
    why = "; ".join(dict.fromkeys(str(fault) or type(fault).__name__ for fault in faults))
    return RedisConnectionError(f"no sentinel of {asked} named the master {address.service!r}: {why}")


class Sentinels:
    """Those that watch over one master. Belongs to one event loop; its owner closes it."""

    def __init__(self, address: Address, *, name: str) -> None:
        self._address = address
        self._clients = [node_client(address.url_of_sentinel(host), **_options(name)) for host in address.hosts]
        self._look: asyncio.Task[Named] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._known: Named | None = None
        #: Every connection to a master, wherever it is in use.
        self._connections: WeakSet[_ToMaster] = WeakSet()

    async def master(self) -> Host:
        """Where the master is now. Raises `RedisError`."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_looking(), name="sentinels are asked")
        if self._look is None:
            self._look = asyncio.create_task(self._ask_all(), name="sentinels look")
            self._look.add_done_callback(self._looked)
        return (await asyncio.shield(self._look)).host  # shared: whoever leaves must not stop it for the others

    def dialled(self, connection: _ToMaster) -> None:
        """Watch over a connection."""
        self._connections.add(connection)

    async def aclose(self) -> None:
        """Ask no more. Connections to the master are closed by those who use them."""
        await cancel_all([task for task in (self._watch, self._look) if task])
        for client in self._clients:
            await client.aclose()

    def _looked(self, look: asyncio.Task[Named]) -> None:
        self._look = None
        if look.cancelled() or look.exception():
            return
        found = look.result()
        if self._known is not None and found.host != self._known.host:
            _log.warning("The master is %s now; it was %s", found.host, self._known.host)
        self._known = found
        for connection in list(self._connections):
            if connection.leads_elsewhere(found.host):
                connection.cut()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS * jitter.uniform(0.7, 1.3))
            with suppress(RedisError):  # no news: connections stay as they are
                await self.master()

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
        if _text(role[0]) != "master":
            raise RedisConnectionError(f"Redis at {self.host}:{self.port} is no master, though a sentinel says so")

    def leads_elsewhere(self, master: Host) -> bool:
        return self.is_connected and (self.host, self.port) != (master.name, master.port)

    def cut(self) -> None:
        """Whoever reads from it finds it lost."""
        transport_of(self).abort()


class _ToMasterByTls(_ToMaster, SSLConnection):
    pass


def master_client(address: Address, *, name: str, socket_timeout: float | None) -> NodeClient:
    """A client of the present master, whichever server that is."""
    sentinels = Sentinels(address, name=name)
    options: dict[str, Any] = {**options_for(address, name=name, socket_timeout=socket_timeout), **pool_options()}
    options.update(cast("dict[str, Any]", parse_url(address.url_of(address.hosts[0]))))
    options["connection_class"] = _ToMasterByTls if address.has_tls else _ToMaster
    client = client_of(redis.asyncio.BlockingConnectionPool(**options, sentinels=sentinels))
    client.closing = sentinels.aclose
    return client


async def _ask(client: NodeClient, service: str) -> Named:
    async with asyncio.timeout(SENTINEL_TIMEOUT_SECONDS):
        about, address = await client.execute_packed(questions(service))
    return read_answer(about, address)


def _options(name: str) -> dict[str, Any]:
    """Sentinels have no part in the password of the master."""
    return options_for(None, name=name, socket_timeout=SENTINEL_TIMEOUT_SECONDS)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
