"""The client of a Cluster: sends each command to the node that has its keys, and follows what moves.

Invariant: a command is sent again only where a node refused to run it (MOVED, ASK, TRYAGAIN): after a lost reply the
caller hears of it, as with one server. The map of slots is a guess that nodes correct; it is asked for again when a
connection breaks. Of several answers the one of the newest epoch counts, so that a node which was cut off from the
others does not lead us back to it (`belief`).
Source: redis.io, "Redis cluster specification".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

import hiredis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from server.streams.cancelling import cancel_all
from server.streams.jitter import jitter
from server.streams.topology.address import Address, Host
from server.streams.topology.belief import MOST_ASKED, Map, choose_map, is_enough, read_map
from server.streams.topology.node import Command, NodeClient, Tracked, options_for, tracked_client
from server.streams.topology.slots import SlotMap, key_of, redirected_to, slot_of
from server.streams.topology.watching import keep_looking

T = TypeVar("T")

#: A node that takes longer to tell the map is as good as dead: there are others.
_LOOK_TIMEOUT_SECONDS: Final = 1.0
#: How long the map may be old while nothing tells that it is; a replica is promoted after longer.
_WATCH_SECONDS: Final = 2.0
#: Looks are no closer than this, however many connections break at once.
_LOOK_PAUSE_SECONDS: Final = 0.1
#: More redirections than a slot can need while it moves once.
_MOST_REDIRECTIONS: Final = 5
#: While the keys of a script are on two nodes it can run on neither. Moving a slot takes a moment; then its caller is
#: told, and has a longer patience of its own.
_TRY_AGAIN_SECONDS: Final = (0.02, 0.05, 0.1, 0.2, 0.4)


class ClusterClient:
    """Commands by slot; belongs to one event loop. Each node has a pool of its own."""

    def __init__(self, address: Address, *, name: str, socket_timeout: float | None) -> None:
        self._address = address
        self._options = options_for(address, name=name, socket_timeout=socket_timeout)
        self._nodes: dict[Host, NodeClient] = {}
        self._connections: dict[Host, WeakSet[Tracked]] = {}
        self._look: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        #: The map that was believed last; `slots` may have been corrected since.
        self._known: Map | None = None
        self._is_closed = False
        self._closing: set[asyncio.Task[None]] = set()
        self.slots = SlotMap()
        #: Called after each change of the map.
        self.on_change: list[Callable[[], None]] = []

    def node(self, host: Host) -> NodeClient:
        """The client of one node."""
        found = self._nodes.get(host)
        if found is None:
            connections = self._connections.setdefault(host, WeakSet())
            url = self._address.url_of(host)
            found = self._nodes[host] = tracked_client(url, connections=connections, **self._options)
        return found

    async def masters(self) -> list[NodeClient]:
        """The clients of all nodes that own slots. Raises `RedisError`."""
        if not self.slots.masters:
            await self.look()
        return [self.node(host) for host in sorted(self.slots.masters)]

    # The map.

    async def look(self) -> None:
        """Ask for the map. Raises `RedisError`."""
        if self._is_closed:  # nobody would end what is begun now
            raise RedisConnectionError("no node is asked for the map any more, for the client is closed")
        await asyncio.shield(self._start_look())  # shared: whoever leaves must not stop it for the others

    def look_soon(self) -> None:
        """Have the map asked for: a node did not answer."""
        loop = asyncio.get_running_loop()
        if not self._is_closed and loop.time() - self._looked_at > _LOOK_PAUSE_SECONDS:
            self._start_look()

    def moved(self, slot: int, host: Host) -> None:
        """Note what a node said when it was asked in vain."""
        before = self.slots.version
        self.slots.move(slot, host)
        if self.slots.version != before:
            self._tell()

    def _start_look(self) -> asyncio.Task[None]:
        if self._watch is None:  # a frozen node breaks no connection: only the others tell that it was replaced
            looking = keep_looking(self.look, every_seconds=_WATCH_SECONDS, at="the map of slots")
            self._watch = asyncio.create_task(looking, name="the map of slots is watched")
        if self._look is None:
            self._look = asyncio.create_task(self._ask_for_map(), name="the map of slots is asked for")
            self._look.add_done_callback(self._looked)
        return self._look

    def _looked(self, look: asyncio.Task[None]) -> None:
        self._look = None
        self._looked_at = look.get_loop().time()
        if not look.cancelled():
            look.exception()  # told to whoever waits, if anybody does

    async def _ask_for_map(self) -> None:
        hosts = list({*self.slots.masters, *self._address.hosts})
        hosts = jitter.sample(hosts, min(len(hosts), MOST_ASKED))
        asking = [
            asyncio.create_task(_ask(self.node(host), host), name=f"{host} is asked for the map") for host in hosts
        ]
        answers: list[Map] = []
        faults: list[str] = []
        try:
            for each in asyncio.as_completed(asking):
                try:
                    answers.append(await each)
                except (RedisError, OSError) as error:
                    faults.append(str(error) or type(error).__name__)
                if is_enough(answers, of=len(asking), known=self._known):
                    break
        finally:
            await cancel_all(asking)
            await asyncio.gather(*asking, return_exceptions=True)  # what they raised is heard
        if not answers:
            asked, why = ", ".join(map(str, hosts)), "; ".join(dict.fromkeys(faults))
            raise RedisConnectionError(f"no node of the Cluster told the map of slots ({asked}): {why}")
        found = choose_map(answers, of=len(asking), known=self._known)
        if found is self._known:
            return  # no news, and what nodes corrected since stays so
        self._known = found
        before = self.slots.version
        self.slots.replace(found.ranges)
        if self.slots.version != before:
            self._tell()

    def _tell(self) -> None:
        for host in self._connections.keys() - self.slots.masters:
            for connection in list(self._connections[host]):
                connection.cut()
        self._forget_nodes()
        for each in tuple(self.on_change):
            each()

    def _forget_nodes(self) -> None:
        """Close what leads to nodes without slots: where addresses change with each restart they would add up."""
        for host in self._nodes.keys() - self.slots.masters - set(self._address.hosts):
            del self._connections[host]
            closing = asyncio.create_task(self._nodes.pop(host).aclose(), name=f"{host} is forgotten")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def owner(self, slot: int) -> Host:
        """The node that has the slot. Raises `RedisError`."""
        found = self.slots.owner(slot)
        if found is None:
            await self.look()
            found = self.slots.owner(slot)
        if found is None:
            raise RedisConnectionError(f"no node of the Cluster has slot {slot}")
        return found

    # What a client does.

    async def execute_command(self, *command: Any) -> Any:
        key = key_of(command)
        if key is None:
            return await self._anywhere(command)

        async def send(node: NodeClient, *, asks: bool) -> Any:
            return await (_execute_asking(node, command) if asks else node.execute_command(*command))

        return await self._follow(slot_of(key), send)

    async def execute_packed(self, commands: Sequence[Command]) -> list[Any]:
        async def send(node: NodeClient, some: Sequence[Command]) -> list[Any]:
            return await node.execute_packed(some)

        return await self._spread(commands, send, self._packed_again)

    async def execute_together(self, commands: Sequence[Command]) -> list[Any]:
        """A command, and behind it over the same connection what has no key and is about it: a WAIT."""

        async def send(node: NodeClient, *, asks: bool) -> list[Any]:
            before: list[Command] = [("ASKING",)] if asks else []
            replies = (await node.execute_packed([*before, *commands]))[len(before) :]
            if is_refused_unrun(replies[0]):
                raise _as_redis_error(str(replies[0]))
            return replies

        return await self._follow(slot_of(key_of(commands[0]) or b""), send)

    def pipeline(self, *, transaction: bool) -> ClusterPipeline:
        return ClusterPipeline(self, in_one_step=transaction)

    async def execute_in_one_step(self, commands: Sequence[Command]) -> list[Any]:
        """A MULTI of one slot. While that moves it is tried again: ASKING goes with one command only."""
        slot = next(slot_of(key) for command in commands if (key := key_of(command)) is not None)

        async def send(node: NodeClient, *, asks: bool) -> list[Any]:
            if asks:
                raise TryAgainError("the slot is moving", status_code="TRYAGAIN")
            return await _piped(node, commands, in_one_step=True)

        return await self._follow(slot, send)

    async def execute_each(self, commands: Sequence[Command]) -> list[Any]:
        """Commands of any slots, in one round trip to each node. Raises the first refusal."""

        async def send(node: NodeClient, some: Sequence[Command]) -> list[Any]:
            return await _piped(node, some, in_one_step=False)

        async def again(command: Command) -> Any:
            return await self.execute_command(*command)

        replies = await self._spread(commands, send, again)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return replies

    async def aclose(self) -> None:
        self._is_closed = True
        await cancel_all([task for task in (self._watch, self._look) if task])
        await asyncio.gather(*self._closing, return_exceptions=True)
        for node in self._nodes.values():
            await node.aclose()

    # How commands find their node.

    async def _follow(self, slot: int, send: Callable[..., Awaitable[T]]) -> T:
        """Send to the owner of the slot, and where that sends us."""
        host, asks = await self.owner(slot), False
        pauses = iter(_TRY_AGAIN_SECONDS)
        redirections = 0
        while redirections <= _MOST_REDIRECTIONS:
            try:
                return await send(self.node(host), asks=asks)
            except (MovedError, AskError) as error:
                redirections += 1
                asks = not isinstance(error, MovedError)
                host = redirected_to(error, asked=host)
                if not asks:
                    self.moved(slot, host)
            except TryAgainError:
                pause = next(pauses, None)
                if pause is None:
                    raise
                await asyncio.sleep(pause * jitter.uniform(0.7, 1.3))
                host, asks, redirections = await self.owner(slot), False, 0
            except ResponseError as error:
                if isinstance(error, ClusterDownError):
                    self.look_soon()
                raise
            except (RedisError, OSError):
                self.look_soon()
                raise
        raise TryAgainError(f"the nodes of the Cluster do not agree on who has slot {slot}", status_code="TRYAGAIN")

    async def _spread(
        self,
        commands: Sequence[Command],
        send: Callable[[NodeClient, Sequence[Command]], Awaitable[list[Any]]],
        again: Callable[[Command], Awaitable[Any]],
    ) -> list[Any]:
        """Replies in the order of the commands; each node is sent its own together, and what moved again by itself."""
        places: dict[Host, list[int]] = {}
        for place, command in enumerate(commands):
            key = key_of(command)
            host = min(self.slots.masters) if key is None and self.slots.masters else None
            places.setdefault(host or await self.owner(slot_of(key or b"")), []).append(place)
        replies: list[Any] = [None] * len(commands)

        async def ask(host: Host, own: list[int]) -> None:
            for place, reply in zip(own, await send(self.node(host), [commands[at] for at in own]), strict=True):
                replies[place] = reply

        found = await asyncio.gather(*(ask(*each) for each in places.items()), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                self.look_soon()
                raise error
        for place, reply in enumerate(replies):
            if is_refused_unrun(reply):
                replies[place] = await again(commands[place])
        return replies

    async def _packed_again(self, command: Command) -> Any:
        async def send(node: NodeClient, *, asks: bool) -> Any:
            reply = (await node.execute_packed([("ASKING",), command] if asks else [command]))[-1]
            if is_refused_unrun(reply):
                raise _as_redis_error(str(reply))
            return reply

        return await self._follow(slot_of(key_of(command) or b""), send)

    async def _anywhere(self, command: Sequence[Any]) -> Any:
        """What has no key: PING is for all nodes that own slots, the rest for any of them."""
        nodes = await self.masters()
        try:
            if str(command[0]).upper() == "PING":
                return (await asyncio.gather(*(node.execute_command(*command) for node in nodes)))[0]
            return await nodes[0].execute_command(*command)
        except (RedisError, OSError):
            self.look_soon()
            raise


class ClusterPipeline:
    """Collects commands, as redis-py's pipeline does."""

    def __init__(self, client: ClusterClient, *, in_one_step: bool) -> None:
        self._client = client
        self._in_one_step = in_one_step
        self._commands: list[Command] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self) -> list[Any]:
        commands, self._commands = self._commands, []
        if not commands:
            return []
        if self._in_one_step:
            return await self._client.execute_in_one_step(commands)
        return await self._client.execute_each(commands)

    async def reset(self) -> None:
        self._commands = []


def is_refused_unrun(reply: Any) -> bool:
    """Whether a reply says that the command did not run, for its slot is on its way."""
    if isinstance(reply, (AskError, TryAgainError)):  # MOVED is an `AskError` too
        return True
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(("MOVED ", "ASK ", "TRYAGAIN"))


def _as_redis_error(text: str) -> RedisError:
    word, _, rest = text.partition(" ")
    if word == "MOVED":
        return MovedError(rest, status_code=word)
    return AskError(rest, status_code=word) if word == "ASK" else TryAgainError(rest, status_code=word)


async def _execute_asking(node: NodeClient, command: Sequence[Any]) -> Any:
    return (await _piped(node, [("ASKING",), tuple(command)], in_one_step=False, raises=True))[-1]


async def _piped(
    node: NodeClient, commands: Iterable[Command], *, in_one_step: bool, raises: bool | None = None
) -> list[Any]:
    pipe: Any = node.pipeline(transaction=in_one_step)
    try:
        for command in commands:
            pipe.execute_command(*command)
        return cast("list[Any]", await pipe.execute(raise_on_error=in_one_step if raises is None else raises))
    finally:
        await pipe.reset()


async def _ask(node: NodeClient, host: Host) -> Map:
    async with asyncio.timeout(_LOOK_TIMEOUT_SECONDS):
        try:
            info, slots = await node.execute_packed([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
        except hiredis.HiredisError as error:  # what came is no reply of Redis
            raise RedisConnectionError(f"{host} answered with what cannot be read: {error}") from error
    return read_map(info, slots, asked=host)
