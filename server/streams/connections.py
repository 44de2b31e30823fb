"""Redis connections: where clients come from, and how commands and scripts are sent and their errors translated.

Invariant: a Redis exception leaves here as `LogUnavailable`, and nothing is sent twice behind the caller's back. What
is sent in bulk (`bulk`), heard (`push`) or waited for at several nodes (`blocking`) goes by connections that are made
here, and keeps the same. Whether there is one server, a master under Sentinel or a Cluster is decided here by the URL,
in `topology`; who has to know it asks `cluster_of`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final, Protocol, cast

import hiredis
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from server.streams.calls import Call, T
from server.streams.errors import LogUnavailable
from server.streams.refusing import is_refused, refusal, silence
from server.streams.topology.address import Kind, parse_address
from server.streams.topology.cluster import ClusterClient
from server.streams.topology.cluster_sync import SyncClusterClient
from server.streams.topology.node import (
    COMMAND_TIMEOUT_SECONDS,
    AsyncConnection,
    Command,
    NodeClient,
    node_client,
    options_for,
    sync_node_client,
)
from server.streams.topology.node import new_connection as new_node_connection
from server.streams.topology.sentinel import master_client
from server.streams.topology.sentinel_sync import sync_master_client
from server.streams.topology.slots import slot_of

_WRITES_NOTHING: Final = "#!lua\nreturn 1"


class AsyncPipeline(Protocol):
    """What is used of redis-py's pipeline."""

    def execute_command(self, *command: Any) -> Any: ...
    async def execute(self) -> list[Any]: ...
    async def reset(self) -> None: ...


class AsyncClient(Protocol):
    """What is used of redis-py's asyncio client."""

    async def execute_command(self, *command: Any) -> Any: ...
    async def execute_packed(self, commands: Sequence[Command]) -> list[Any]: ...
    async def execute_together(self, commands: Sequence[Command]) -> list[Any]: ...
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


def connect(
    url: str, *, name: str, socket_timeout: float | None = COMMAND_TIMEOUT_SECONDS, tells_of_moves: bool = True
) -> AsyncClient:
    """An asyncio client; nothing is dialled before the first command.

    Blocking reads need a client of their own with `socket_timeout` above their BLOCK, or the timeout cuts them off.
    Of several clients in one process one `tells_of_moves`: its log line of a new master is enough.
    Raises `InvalidInput` for a URL of another form.
    """
    address = parse_address(url)
    if address.kind is Kind.CLUSTER:
        return cast("AsyncClient", ClusterClient(address, name=name, socket_timeout=socket_timeout))
    if address.kind is Kind.SENTINEL:
        found = master_client(address, name=name, socket_timeout=socket_timeout, tells_of_moves=tells_of_moves)
        return cast("AsyncClient", found)
    options = options_for(address, name=name, socket_timeout=socket_timeout)
    return cast("AsyncClient", node_client(address.url, **options))


def connect_sync(url: str, *, name: str) -> SyncClient:
    """The same for threads."""
    address = parse_address(url)
    if address.kind is Kind.CLUSTER:
        found = SyncClusterClient(address, name=name, socket_timeout=COMMAND_TIMEOUT_SECONDS)
        return cast("SyncClient", found)
    if address.kind is Kind.SENTINEL:
        return cast("SyncClient", sync_master_client(address, name=name, socket_timeout=COMMAND_TIMEOUT_SECONDS))
    options = options_for(address, name=name, socket_timeout=COMMAND_TIMEOUT_SECONDS)
    return cast("SyncClient", sync_node_client(address.url, **options))


def has_tls(url: str) -> bool:
    """Whether connections to there speak TLS. Raises `InvalidInput` for a URL of another form."""
    return parse_address(url).has_tls


def cluster_of(client: AsyncClient) -> ClusterClient | None:
    """The client as that of a Cluster; None if there is one server, and so one connection leads to all keys."""
    return client if isinstance(client, ClusterClient) else None


async def each_node(client: AsyncClient) -> list[AsyncClient]:
    """A client for each server that takes writes. Raises `LogUnavailable`."""
    cluster = cluster_of(client)
    if cluster is None:
        return [client]
    try:
        return [cast("AsyncClient", node) for node in await cluster.masters()]
    except (RedisError, OSError) as error:
        raise unavailable(error) from error


async def name_of(node: AsyncClient) -> str:
    """Where the server that answers listens, by its own account: an address, or the path of a socket.

    Raises `LogUnavailable`.
    """
    told: Any = await execute(node, "CLIENT", "INFO")
    words = (told.decode(errors="replace") if isinstance(told, bytes) else str(told)).split()
    found = next((word.removeprefix("laddr=") for word in words if word.startswith("laddr=")), "")
    # A path comes as if it were an address with the port 0, by Valkey as if it were one of IPv6.
    return found.strip("[]").partition(":0")[0] if "/" in found else found


async def probe_writes(client: AsyncClient) -> None:
    """Ask each server whether it takes writes. Raises `LogUnavailable` if one does not, or does not answer.

    A script that does not say it only reads is refused before it runs whenever a write is (memory or disk full, a
    master that was demoted, too few replicas), needs no key, and so no slot.
    Source: redis.io, "Lua API reference", script flags.
    """
    for node in await each_node(client):
        await execute(node, "EVAL", _WRITES_NOTHING, 0)


def together(client: AsyncClient, names: Sequence[str]) -> list[list[str]]:
    """Keys in groups that one command may name: all of them, or in a Cluster those of each slot."""
    if cluster_of(client) is None:
        return [list(names)] if names else []
    groups: dict[int, list[str]] = {}
    for name in names:
        groups.setdefault(slot_of(name), []).append(name)
    return list(groups.values())


def new_connection(client: AsyncClient) -> AsyncConnection:
    """A connection as the client's pool makes them, outside of the pool and not dialled yet."""
    return new_node_connection(cast("NodeClient", client))


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
    return await _packed(client.execute_packed(commands))


async def execute_together(client: AsyncClient, *commands: Command) -> list[Any]:
    """Send a command, and what has no key and goes over the very connection behind it, as WAIT has to.

    Replies come as they are on the wire; where what is behind is refused, its reply is that `LogUnavailable`, for the
    command has run. Raises `LogUnavailable` if Redis refuses the command, or does not answer.
    """
    first, *behind = await _replies(client.execute_together(commands))
    if isinstance(first, Exception):
        raise refusal(str(first))
    return [first, *(refusal(str(each)) if isinstance(each, Exception) else each for each in behind)]


async def _replies(answer: Awaitable[list[Any]]) -> list[Any]:
    try:
        return await _answer(answer)
    except (RedisError, OSError, hiredis.HiredisError) as error:
        raise unavailable(error) from error


async def _packed(answer: Awaitable[list[Any]]) -> list[Any]:
    replies = await _replies(answer)
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
    if unknown:  # each script is sent whole once to each node; what follows in the same trip finds it known
        sent: set[tuple[str, object]] = set()
        commands: list[tuple[Any, ...]] = []
        for call in [given[place] for place in unknown]:
            script = call.script
            there = (script.sha, client.owner_of(call.keys[0]) if isinstance(client, SyncClusterClient) else None)
            commands.append((("EVALSHA", script.sha) if there in sent else ("EVAL", script.text)) + call.tail())
            sent.add(there)
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
    if isinstance(error, ResponseError) or code is not None or is_refused(text):
        return refusal(text, code=code)
    return silence(text)


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
        replies = pipe.execute(raise_on_error=False)
    except (RedisError, OSError) as error:
        raise unavailable(error) from error
    finally:
        pipe.reset()
    if any(isinstance(reply, ReadOnlyError) for reply in replies):  # a replica by now: its successor may be elsewhere
        client.close()
    return replies
