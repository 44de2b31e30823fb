"""A connection for round trips of many commands: one write, and the replies parsed in bulk where they arrive.

redis-py makes the connection (address, TLS, user, HELLO, name) and closes it. In between its transport is ours: its own
way would cost an asyncio task switch and a timeout for each command. Invariant: of a round trip every command gets its
reply, or `LogUnavailable` if none came; what became of it is then *unknown*, and nothing is sent twice. It knows
nothing of what the commands mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hiredis
from redis.exceptions import RedisError, ResponseError

from server.streams.connections import AsyncClient, Command, new_connection, unavailable
from server.streams.errors import LogUnavailable
from server.streams.topology.node import INCOMPLETE, AsyncConnection, pack, transport_of
from server.streams.topology.slots import Redirection, redirection

#: Given the replies in the order of the commands; in the place of a refusal or of a reply that never came, the error.
Done = Callable[[list[Any]], None]


class ScriptMissing(LogUnavailable):
    """Redis's: it does not know the script by its hash. It did nothing, and has to be sent the text."""


class Redirected(LogUnavailable):
    """Redis's: another node of the Cluster has the key. It did nothing, and tells where to ask."""

    def __init__(self, text: str, where: Redirection) -> None:
        super().__init__(text)
        self.where = where


class BulkConnection(asyncio.Protocol):
    """One round trip at a time. Belongs to one event loop; `open_bulk` makes one, its owner closes it, lost or not."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=INCOMPLETE, replyError=self._refusal)
        self._packed: list[bytes] = []
        #: Of the round trip under way: how many replies are due, those that came, and who is told.
        self._due = 0
        self._replies: list[Any] = []
        self._done: Done | None = None
        #: A server that is silent for longer, with replies due, is taken for dead.
        self._patience = connection.socket_timeout
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.is_lost = False
        #: Whether it said that it takes no writes, as a replica does: the next connection may lead to its successor.
        self._is_demoted = False
        self._transport = transport_of(connection)
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def add(self, command: Command) -> int:
        """Put a command into the next round trip; returns its size in bytes."""
        packed = pack(command)
        self._packed.append(packed)
        return len(packed)

    def go(self, done: Done) -> None:
        """Begin the round trip; `done` is called once, at its end or when the connection is lost."""
        if self._done:
            raise RuntimeError("One round trip at a time: replies are told apart by their order.")
        packed, self._packed = self._packed, []
        self._due, self._replies, self._done = len(packed), [], done
        self._heard_at = self._loop.time()
        if self._watch is None and self._patience:
            self._watch = self._loop.call_later(self._patience, self._look)
        self._transport.write(b"".join(packed))

    def give_up(self, reason: str) -> None:
        """The connection is of no more use; what was under way is unknown."""
        if self.is_lost:
            return
        self.is_lost = True
        self._transport.abort()  # closing would wait until a frozen server has taken what was written
        if self._watch:
            self._watch.cancel()
        if self._done:
            error = LogUnavailable(f"Redis did not answer: {reason}")
            self._finish([*self._replies, *[error] * self._due][: self._due])

    async def aclose(self) -> None:
        """Close it and wait until the socket is gone."""
        self.give_up("The connection was closed here.")
        with suppress(RedisError, OSError):
            await self._connection.disconnect()

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        if self.is_lost:
            return
        self._heard_at = self._loop.time()
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not INCOMPLETE:
                replies.append(reply)
        except hiredis.HiredisError as error:
            self.give_up(f"It sent what is not its protocol: {error}")
            return
        if len(replies) == self._due and self._done:
            self._finish(replies)
        elif len(replies) > self._due:  # replies could be taken for those of other commands
            self.give_up("It sent what nobody had asked for.")

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up(str(exc) if exc else "Connection closed by server.")
        self._before.connection_lost(exc)  # redis-py waits for it while it closes

    def _finish(self, replies: list[Any]) -> None:
        done, self._done = self._done, None
        self._due, self._replies = 0, []
        if done:
            done(replies)
        if self._is_demoted:
            self.give_up("It is a replica.")

    def _refusal(self, text: str) -> LogUnavailable:
        self._is_demoted = self._is_demoted or text.startswith("READONLY")
        if text.startswith("NOSCRIPT"):
            return ScriptMissing(text)
        if text.startswith(("MOVED ", "ASK ")) and (where := redirection(text)):
            return Redirected(text, where)
        return unavailable(ResponseError(text))

    def _look(self) -> None:
        self._watch = None
        if self._done is None or not self._patience:
            return
        left = self._heard_at + self._patience - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self.give_up("Timeout reading from socket.")


async def open_bulk(client: AsyncClient) -> BulkConnection:
    """Connect as `client` would. Raises `LogUnavailable`."""
    connection = new_connection(client)
    try:
        await connection.connect()
        is_at_rest = not await connection.can_read()
    except BaseException as error:
        await connection.disconnect(nowait=True)
        if isinstance(error, (RedisError, OSError)):
            raise unavailable(error) from error
        raise
    if not is_at_rest:  # what came would be lost: the parser that has it is not ours
        await connection.disconnect(nowait=True)
        raise LogUnavailable("Redis did not answer: it sent more than the replies to the greeting.")
    return BulkConnection(connection)
