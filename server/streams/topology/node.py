"""The client of one Redis server, as redis-py makes it, for asyncio and for threads.

Invariant: nothing is sent twice behind the caller's back. A write whose reply was lost is *unknown*; the scripts tell
its fate when asked again, so redis-py's own retries are off. Weak redis-py types stay in here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, cast
from weakref import WeakSet

import hiredis
import redis
import redis.asyncio
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from server.streams.topology.address import Address
from server.streams.topology.credentials import PasswordFile

#: The name of a command and its arguments.
Command = tuple[str | bytes | float, ...]
#: Above the slowest healthy reply by far, below the shortest lease.
COMMAND_TIMEOUT_SECONDS: Final = 5.0
_CONNECT_TIMEOUT_SECONDS: Final = 2.0
#: Enough to keep Redis busy from one process; more would only queue there.
_MAX_CONNECTIONS: Final = 32
_POOL_TIMEOUT_SECONDS: Final = 10
#: One command as Redis reads it. hiredis types the argument as a tuple of one.
pack: Final = cast("Callable[[Command], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
#: As much as one read of the socket brings.
_READ_BYTES: Final = 262_144
#: How a replica refuses what only a master does.
_OF_REPLICA: Final = re.compile("READONLY|ERR WAIT(AOF)? cannot be used with replica")
#: For hiredis: None and False are replies too.
INCOMPLETE: Final = object()


class AsyncConnection(Protocol):
    """What is used of one connection of redis-py."""

    socket_timeout: float | None

    async def connect(self) -> None: ...
    async def can_read(self) -> bool: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...  # noqa: FBT001 (redis-py's signature)


class NodeClient(redis.asyncio.Redis):
    """redis-py's client, with a cheaper way to send many commands."""

    #: What to close after the pool: whoever told where the server is.
    closing: Callable[[], Awaitable[None]] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return cast("Any", await super().execute_command(*args, **options))  # pyright: ignore[reportUnknownMemberType]
        except ReadOnlyError:  # a replica by now: the next connection may lead to its successor
            await self.connection_pool.disconnect(inuse_connections=False)
            raise

    async def execute_packed(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write and return their replies as they came, errors among them.

        A sixth of what redis-py's pipeline costs for each, so for commands that are sent by the thousand.
        """
        pool: Any = self.connection_pool
        connection = cast("AsyncConnection", await pool.get_connection())
        try:
            async with asyncio.timeout(connection.socket_timeout):
                replies = await _exchange(connection, commands)
            if any(map(_is_of_replica, replies)):
                await connection.disconnect(nowait=True)
                await pool.disconnect(inuse_connections=False)
            return replies
        except BaseException:
            await connection.disconnect(nowait=True)  # its replies would be taken for those of other commands
            raise
        finally:
            await pool.release(connection)

    async def execute_together(self, commands: Sequence[Command]) -> list[Any]:
        """The same: there is one server, and one write goes over one connection."""
        return await self.execute_packed(commands)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 (redis-py's signature)
        await super().aclose(close_connection_pool)
        if self.closing:
            await self.closing()


def _is_of_replica(reply: Any) -> bool:
    """Whether only a replica refuses so: the next connection may lead to its successor."""
    return isinstance(reply, hiredis.ReplyError) and bool(_OF_REPLICA.match(str(reply)))


async def _exchange(connection: AsyncConnection, commands: Sequence[Command]) -> list[Any]:
    reader, writer = streams_of(connection)
    writer.write(b"".join(map(pack, commands)))
    parser = hiredis.Reader(notEnoughData=INCOMPLETE)
    replies: list[Any] = []
    while len(replies) < len(commands):
        raw = await reader.read(_READ_BYTES)
        if not raw:
            raise ConnectionResetError("Redis closed the connection.")
        parser.feed(raw)
        while (reply := parser.gets()) is not INCOMPLETE:
            if not isinstance(reply, hiredis.PushNotification):
                replies.append(reply)
    if len(replies) > len(commands) or parser.has_data():
        raise ConnectionAbortedError("Redis sent more replies than it was asked for.")
    return replies


class Tracked(Connection):
    """A connection that can be cut from outside, wherever it is in use. Whoever reads from it finds it lost."""

    def __init__(self, *, connections: WeakSet[Tracked], **options: Any) -> None:
        self._connections = connections
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]

    async def _connect(self) -> None:
        await super()._connect()
        self._connections.add(self)

    def cut(self) -> None:
        if self.is_connected:
            transport_of(self).abort()


class _TrackedByTls(Tracked, SSLConnection):
    pass


def tracked_client(url: str, *, connections: WeakSet[Tracked], **options: Any) -> NodeClient:
    """A client of the server that a `redis://` or `rediss://` URL names; notes its connections as they are made."""
    given = {**options, **pool_options(), **cast("dict[str, Any]", parse_url(url))}
    given["connection_class"] = _TrackedByTls if url.startswith("rediss") else Tracked
    return client_of(redis.asyncio.BlockingConnectionPool(**given, connections=connections))


def node_client(url: str, **options: Any) -> NodeClient:
    """A client of the server that the URL names, with options as `options_for` has them."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url, **options, **pool_options()
    )
    return client_of(pool)


def client_of(pool: redis.asyncio.BlockingConnectionPool) -> NodeClient:
    """The client that owns this pool."""
    return cast("NodeClient", NodeClient.from_pool(pool))


def sync_node_client(url: str, **options: Any) -> redis.Redis:
    """The same for threads."""
    return redis.Redis.from_url(url, **options, retry=Retry(NoBackoff(), 0))  # pyright: ignore[reportUnknownMemberType]


def pool_options() -> dict[str, Any]:
    """A crowd that reconnects must wait for a connection, not be refused one: the plain pool raises at its limit."""
    return {
        "retry": AsyncRetry(NoBackoff(), 0),
        "max_connections": _MAX_CONNECTIONS,
        "timeout": _POOL_TIMEOUT_SECONDS,
    }


def options_for(address: Address | None, *, name: str, socket_timeout: float | None) -> dict[str, Any]:
    """What every connection of a client is made with, beside what its URL says."""
    found: dict[str, Any] = {
        "client_name": name,
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": min(_CONNECT_TIMEOUT_SECONDS, socket_timeout or _CONNECT_TIMEOUT_SECONDS),
        # RESP2 shapes of old, or nested ones of RESP3, depending on the version: this setting alone is stable.
        "legacy_responses": False,
        # redis-py 8.1.0 hands out connections that the server closed while they were idle unless this is off (#4252).
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if address is not None and address.password_file is not None:
        found["credential_provider"] = PasswordFile(address.password_file, username=address.username)
    return found


def new_connection(client: NodeClient) -> AsyncConnection:
    """A connection as the client's pool makes them, outside of the pool and not dialled yet."""
    pool: Any = client.connection_pool
    return cast("AsyncConnection", pool.make_connection())


def transport_of(connection: AsyncConnection) -> asyncio.Transport:
    """The transport of a dialled connection."""
    return cast("asyncio.Transport", streams_of(connection)[1].transport)


def streams_of(connection: AsyncConnection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The only private names of redis-py in use, for which it is held to one minor: no public one leads there."""
    inner: Any = connection
    return inner._reader, inner._writer  # noqa: SLF001
