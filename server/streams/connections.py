"""Redis connections: the one place that builds them, sends commands and translates their errors.

Invariant: nothing is sent twice behind the caller's back. A write whose reply was lost is *unknown*; the scripts tell
its fate when asked again, so redis-py's own retries are off. Weak redis-py types stay in here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from server.streams.calls import Call, T
from server.streams.errors import InvalidInput, LogUnavailable
from server.streams.refusing import refusal

#: The name of a command and its arguments.
Command = tuple[str | bytes | float, ...]


class AsyncPipeline(Protocol):
    """What is used of redis-py's pipeline."""

    def execute_command(self, *command: Any) -> Any: ...
    async def execute(self) -> list[Any]: ...
    async def reset(self) -> None: ...


class AsyncConnection(Protocol):
    """What is used of one connection of redis-py."""

    socket_timeout: float | None

    async def connect(self) -> None: ...
    async def can_read(self) -> bool: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...  # noqa: FBT001 (redis-py's signature)


class AsyncClient(Protocol):
    """What is used of redis-py's asyncio client."""

    async def execute_command(self, *command: Any) -> Any: ...
    async def execute_packed(self, commands: Sequence[Command]) -> list[Any]: ...
    def pipeline(self, *, transaction: bool) -> AsyncPipeline: ...
    async def aclose(self) -> None: ...


class SyncPipeline(Protocol):
    """What is used of redis-py's pipeline for threads."""

    def execute_command(self, *command: Any) -> Any: ...
    def execute(self, raise_on_error: bool) -> list[Any]: ...  # noqa: FBT001 (redis-py's signature)
    def reset(self) -> None: ...


class SyncClient(Protocol):
    """What is used of redis-py's client for threads."""

    def execute_command(self, *command: Any) -> Any: ...
    def pipeline(self, *, transaction: bool) -> SyncPipeline: ...
    def close(self) -> None: ...


#: Above the slowest healthy reply by far, below the shortest lease.
_COMMAND_TIMEOUT_SECONDS: Final = 5.0
_CONNECT_TIMEOUT_SECONDS: Final = 2.0
#: Enough to keep Redis busy from one process; more would only queue there.
_MAX_CONNECTIONS: Final = 32
_POOL_TIMEOUT_SECONDS: Final = 10
#: One command as Redis reads it. hiredis types the argument as a tuple of one.
pack: Final = cast("Callable[[Command], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
#: As much as one read of the socket brings.
_READ_BYTES: Final = 262_144
#: For hiredis: None and False are replies too.
INCOMPLETE: Final = object()
_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_DATABASE: Final = re.compile(r"/?|/[0-9]{1,9}")
#: Those of TLS, `ssl_…`, besides; the others are set here or would make redis-py fail at the first command.
_URL_OPTIONS: Final = frozenset({"db", "username", "password"})


class _Client(redis.asyncio.Redis):
    async def execute_packed(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write and return their replies as they came, errors among them.

        A sixth of what redis-py's pipeline costs for each, so for commands that are sent by the thousand.
        """
        pool: Any = self.connection_pool
        connection = cast("AsyncConnection", await pool.get_connection())
        try:
            async with asyncio.timeout(connection.socket_timeout):
                return await _exchange(connection, commands)
        except BaseException:
            await connection.disconnect(nowait=True)  # its replies would be taken for those of other commands
            raise
        finally:
            await pool.release(connection)


async def _exchange(connection: AsyncConnection, commands: Sequence[Command]) -> list[Any]:
    reader, writer = _streams_of(connection)
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


def connect(url: str, *, name: str, socket_timeout: float | None = _COMMAND_TIMEOUT_SECONDS) -> AsyncClient:
    """An asyncio client; nothing is dialled before the first command.

    Blocking reads need a client of their own with `socket_timeout` above their BLOCK, or the timeout cuts them off.
    Raises `InvalidInput` for a URL of another form.
    """
    # A crowd that reconnects must wait for a connection, not be refused one: the plain pool raises at its limit.
    pool = redis.asyncio.BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        check_url(url),
        **_options(name, socket_timeout),
        retry=AsyncRetry(NoBackoff(), 0),
        max_connections=_MAX_CONNECTIONS,
        timeout=_POOL_TIMEOUT_SECONDS,
    )
    return cast("AsyncClient", _Client.from_pool(pool))


def connect_sync(url: str, *, name: str) -> SyncClient:
    """The same for threads."""
    client = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        check_url(url), **_options(name, _COMMAND_TIMEOUT_SECONDS), retry=Retry(NoBackoff(), 0)
    )
    return cast("SyncClient", client)


def new_connection(client: AsyncClient) -> AsyncConnection:
    """A connection as the client's pool makes them, outside of the pool and not dialled yet."""
    pool: Any = cast("Any", client).connection_pool
    return cast("AsyncConnection", pool.make_connection())


def transport_of(connection: AsyncConnection) -> asyncio.Transport:
    """The transport of a dialled connection."""
    return cast("asyncio.Transport", _streams_of(connection)[1].transport)


def _streams_of(connection: AsyncConnection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The only private names of redis-py in use, for which it is held to one minor: no public one leads there."""
    inner: Any = connection
    return inner._reader, inner._writer  # noqa: SLF001


def check_url(url: str, *, what: str = "REPRISE_REDIS_URL") -> str:
    """Return the URL if it can be used; raise `InvalidInput` otherwise. One that may hold a password is not shown."""
    if not url.startswith(_SCHEMES):
        scheme, separator, _ = url.partition("://")
        begins = f"begins with {scheme[:20]!r}" if separator else "has no scheme"
        raise InvalidInput(f"{what} {begins}. Use redis://host:port/0, rediss:// for TLS, or unix:///path/to/socket.")
    may_show = "@" not in url and "password" not in url
    if fault := _fault_of(url, may_show=may_show):
        form = "unix:///path/to/socket" if url.startswith("unix") else "redis://host:6379/0"
        hint = "" if may_show else ", with %23 for # and %2F for / in a password"
        raise InvalidInput(f"{what} {fault}. Write it as {form}{hint}.")
    return url


def _fault_of(url: str, *, may_show: bool) -> str | None:
    """What is wrong after the scheme. redis-py itself would read past much of it, and use another database."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text repeats a part of what may be a password
        shown = f" ({url.partition('://')[2][:60]!r})" if may_show else ""
        return f"has a host and port that cannot be read{shown}; a port is a number from 1 to 65535"
    if port == 0:
        return "has the port 0; a port is a number from 1 to 65535"
    if "#" in url:
        return "has a '#', which must be written %23"
    if parts.scheme == "unix":
        return "names no socket" if len(parts.path) < 2 else _fault_of_options(parts.query, may_show=may_show)
    if not _DATABASE.fullmatch(parts.path):
        shown = f" ({parts.path[:60]!r})" if may_show else ""
        return f"ends with what is no number of a database{shown}"
    return _fault_of_options(parts.query, may_show=may_show)


def _fault_of_options(query: str, *, may_show: bool) -> str | None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "db" and not value.isdecimal():
            return "has an option 'db' that is no number of a database"
        if name not in _URL_OPTIONS and not name.startswith("ssl_"):
            shown = f" {name[:20]!r}" if may_show else ""
            return f"has an option{shown} that Reprise does not take"
    return None


async def execute(client: AsyncClient, *command: str | bytes | float) -> Any:
    """Send one command. Raises `LogUnavailable` if Redis does not answer or refuses it."""
    try:
        return await _answer(client.execute_command(*command))
    except (RedisError, OSError) as error:
        raise unavailable(error) from error


async def redis_seconds(client: AsyncClient) -> float:
    """Seconds since epoch by the clock of Redis, which all processes share. Raises `LogUnavailable`."""
    seconds, microseconds = await execute(client, "TIME")
    return int(seconds) + int(microseconds) / 1_000_000


async def execute_many(client: AsyncClient, commands: Sequence[Command], *, in_one_step: bool = False) -> list[Any]:
    """Send commands in one round trip, with `in_one_step` as a MULTI of one slot. Raises `LogUnavailable`."""
    pipe = client.pipeline(transaction=in_one_step)
    try:
        for command in commands:
            pipe.execute_command(*command)
        return await _answer(pipe.execute())
    except (RedisError, OSError) as error:
        raise unavailable(error) from error
    finally:
        await pipe.reset()


async def execute_packed(client: AsyncClient, commands: Sequence[Command]) -> list[Any]:
    """Send many commands in one round trip; replies come as they are on the wire. Raises `LogUnavailable`.

    Not for commands that one of the others can make fail: a single refusal raises.
    """
    try:
        replies = await _answer(client.execute_packed(commands))
    except (RedisError, OSError, hiredis.HiredisError) as error:
        raise unavailable(error) from error
    for reply in replies:
        if isinstance(reply, Exception):
            raise refusal(str(reply))
    return replies


def execute_many_sync(client: SyncClient, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Send commands in one round trip, for threads. Raises `LogUnavailable` if Redis does not answer.

    Where it refuses a command, the reply is that command's `LogUnavailable`.
    """
    replies = _pipelined(client, commands)
    return [unavailable(reply) if isinstance(reply, RedisError) else reply for reply in replies]


async def run(client: AsyncClient, call: Call[T]) -> T:
    """Run a script and return what its reply means. Raises `LogUnavailable`; whether it took effect is then unknown."""
    try:
        try:
            reply = await _answer(client.execute_command("EVALSHA", call.script.sha, *call.tail()))
        except NoScriptError:
            reply = await _answer(client.execute_command("EVAL", call.script.text, *call.tail()))
    except (RedisError, OSError) as error:
        raise unavailable(error) from error
    return call.parse(reply)


def run_sync(client: SyncClient, call: Call[T]) -> T:
    """The same for threads."""
    try:
        try:
            reply = client.execute_command("EVALSHA", call.script.sha, *call.tail())
        except NoScriptError:
            reply = client.execute_command("EVAL", call.script.text, *call.tail())
    except (RedisError, OSError) as error:
        raise unavailable(error) from error
    return call.parse(reply)


def run_many_sync(client: SyncClient, given: Sequence[Call[T]]) -> list[T | LogUnavailable]:
    """Run scripts in one round trip, for threads. Raises `LogUnavailable` if Redis does not answer.

    Where it refuses one, the result is that one's `LogUnavailable`.
    """
    replies = _pipelined(client, [("EVALSHA", call.script.sha, *call.tail()) for call in given])
    unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:  # each script is sent whole once; what follows in the same trip finds it known
        sent: set[str] = set()
        commands: list[tuple[Any, ...]] = []
        for call in [given[place] for place in unknown]:
            script, is_known = call.script, call.script.sha in sent
            commands.append((("EVALSHA", script.sha) if is_known else ("EVAL", script.text)) + call.tail())
            sent.add(script.sha)
        for place, reply in zip(unknown, _pipelined(client, commands), strict=True):
            replies[place] = reply
    return [
        unavailable(reply) if isinstance(reply, RedisError) else call.parse(reply)
        for call, reply in zip(given, replies, strict=True)
    ]


def unavailable(error: Exception) -> LogUnavailable:
    """The error to raise for what redis-py or the socket raised."""
    text = str(error) or type(error).__name__
    # Of a code it knows redis-py makes a class, and cuts it off the text; some of those count as broken connections.
    code: str | None = getattr(error, "status_code", None)
    if isinstance(error, ResponseError) or code is not None:
        return refusal(text, code=code)
    return LogUnavailable(f"Redis did not answer: {text}")


async def _answer(answer: Awaitable[T]) -> T:
    """Await redis-py and stay cancelled if it was.

    It writes under `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes while the written
    command waits to be noticed (bpo-37658): the caller would go on, and whoever waits for its end would wait for ever.
    """
    caller = asyncio.current_task()
    cancelled_before = caller.cancelling() if caller else 0
    try:
        return await answer
    finally:
        if caller and caller.cancelling() > cancelled_before:
            raise asyncio.CancelledError


def _pipelined(client: SyncClient, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Replies, and the error in the place of each command that was refused."""
    pipe = client.pipeline(transaction=False)
    try:
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute(raise_on_error=False)
    except (RedisError, OSError) as error:
        raise unavailable(error) from error
    finally:
        pipe.reset()


def _options(name: str, socket_timeout: float | None) -> dict[str, Any]:
    return {
        "client_name": name,
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        # RESP2 shapes of old, or nested ones of RESP3, depending on the version: this setting alone is stable.
        "legacy_responses": False,
        # redis-py 8.1.0 hands out connections that the server closed while they were idle unless this is off (#4252).
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
