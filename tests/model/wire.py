"""Connections to the server under test, and links that lose, hold, delay and double what a process sends.

`Wire` is a plain blocking connection, so that nothing is decided by scheduling. `Link` is the client that product code
is given; the schedule arms it with faults, one for each request to come.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis.exceptions
from redis.exceptions import NoScriptError, RedisError, ResponseError

from server.streams.bulk import ScriptMissing
from server.streams.connections import unavailable

Command = Sequence[Any]

#: What may become of a request.
#:   none          nothing; the next fault is for the request after it
#:   lose-request  it never arrives, and the caller is told that the connection broke
#:   lose-reply    it takes effect, and the caller is told that the connection broke
#:   late          the caller is told so too; it arrives when the schedule says `arrive`
#:   double        it takes effect twice; the caller gets the second answer
#:   slow-request  it is sent when the schedule says `unhold`
#:   slow-reply    it takes effect now; the answer comes when the schedule says `unhold`
FAULTS = ("none", "lose-request", "lose-reply", "late", "double", "slow-request", "slow-reply")


def _error(text: str) -> Exception:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)


def _packed(command: Command) -> bytes:
    return hiredis.pack_command(tuple(command))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


class Wire:
    """One blocking connection, RESP2."""

    def __init__(self, url: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(url.removeprefix("unix://"))
        self._reader = hiredis.Reader(replyError=_error)

    def many(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go; an error comes as an exception object in its place."""
        self._socket.sendall(b"".join(_packed(command) for command in commands))
        return [self.next_reply() for _ in commands]

    def command(self, *words: Any) -> Any:
        (reply,) = self.many([words])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def next_reply(self) -> Any:
        while (reply := self._reader.gets()) is False:
            received = self._socket.recv(65536)
            assert received, "The server closed the connection."
            self._reader.feed(received)
        return reply

    def send(self, *words: Any) -> None:
        self._socket.sendall(_packed(words))

    def close(self) -> None:
        self._socket.close()


class Link:
    """The Redis client of one process of the model: redis-py's asyncio client as far as the product uses it."""

    def __init__(self, name: str, perform: Callable[[Sequence[Command]], list[Any]], loaded: set[str]) -> None:
        """`loaded` holds the hashes of the scripts that this Redis knows by now; all links share it."""
        self.name = name
        self._perform = perform
        self._loaded = loaded
        self.faults: deque[str] = deque()
        #: Requests that will arrive though their senders have given up on them.
        self.limbo: deque[Sequence[Command]] = deque()
        #: Released by `unhold`: True to go on, False if the connection broke meanwhile.
        self._held: list[asyncio.Future[bool]] = []
        self.is_down = False
        #: While partitioned, requests wait in the sender's socket.
        self.is_partitioned = False

    async def execute_command(self, *command: Any) -> Any:
        (reply,) = await self.exchange([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def execute_packed(self, commands: Sequence[Command]) -> list[Any]:
        return await self.exchange(commands) if commands else []

    async def execute_together(self, commands: Sequence[Command]) -> list[Any]:
        return await self.exchange(commands)

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        return _Pipeline(self)

    async def aclose(self) -> None:
        pass

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands. To learn that a script has to be sent whole uses up no fault."""
        verb, script = commands[0][:2]
        if verb == "EVALSHA" and script not in self._loaded:
            return [NoScriptError("NOSCRIPT") for _ in commands]
        if verb == "EVAL":
            self._loaded.add(hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest())
        fault = self.faults.popleft() if self.faults else ""
        if self.is_partitioned:
            await self._hold()
        if self.is_down or fault == "lose-request":
            raise redis.exceptions.ConnectionError("the request was lost")
        if fault == "late":
            self.limbo.append(commands)
            raise redis.exceptions.TimeoutError("the request is late")
        if fault == "slow-request":
            await self._hold()
        replies = self._perform(commands)
        if fault == "double":
            replies = self._perform(commands)
        if fault == "lose-reply":
            raise redis.exceptions.ConnectionError("the reply was lost")
        if fault == "slow-reply":
            await self._hold()
        return replies

    def arrive(self) -> bool:
        """Let the oldest late request take effect; False if there is none."""
        if self.limbo:
            self._perform(self.limbo.popleft())
            return True
        return False

    def unhold(self, *, broken: bool = False) -> None:
        """Let what is held go on, or fail."""
        held, self._held = self._held, []
        for future in held:
            if not future.done():
                future.set_result(not broken)

    def heal(self) -> None:
        self.is_partitioned = False
        self.unhold()

    def cut(self) -> None:
        """The server behind it is another one now: what was under way never arrives."""
        self.limbo.clear()
        self.unhold(broken=True)

    def forget(self) -> None:
        """The process behind it is gone: what it had sent may still arrive, what it waited for never will."""
        self.faults.clear()
        self._held.clear()
        self.is_partitioned = False

    async def _hold(self) -> None:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._held.append(future)
        if not await future:
            raise redis.exceptions.ConnectionError("the connection broke")


class LinkConnection:
    """A lane's connection over a link: what `BulkConnection` is over a socket."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._commands: list[Command] = []
        self._exchange: asyncio.Task[None] | None = None
        self.is_lost = False

    def add(self, command: Command) -> int:
        self._commands.append(command)
        return 1

    def go(self, done: Callable[[list[Any]], None]) -> None:
        commands, self._commands = self._commands, []
        self._exchange = asyncio.ensure_future(self._perform(commands, done))

    async def aclose(self) -> None:
        if self._exchange:
            self._exchange.cancel()

    async def _perform(self, commands: Sequence[Command], done: Callable[[list[Any]], None]) -> None:
        try:
            replies = await self._link.exchange(commands)
        except RedisError as error:
            self.is_lost = True
            replies = [error for _ in commands]
        done([_as_bulk(reply) for reply in replies])


def _as_bulk(reply: Any) -> Any:
    if isinstance(reply, NoScriptError):
        return ScriptMissing(str(reply))
    return unavailable(reply) if isinstance(reply, Exception) else reply


class _Pipeline:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._commands: list[Command] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self) -> list[Any]:
        replies = await self._link.exchange(self._commands) if self._commands else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def reset(self) -> None:
        self._commands = []
