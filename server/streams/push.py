"""A connection on which Redis speaks first: rings and confirmations arrive as they come, commands wait for no reply.

redis-py makes the connection (address, TLS, user, HELLO, name) and closes it. In between its transport is ours: what a
read of the socket brings is parsed and handed on in one loop, without a switch of asyncio tasks for each message.
Invariant: a connection that is over says so in `lost`, with the reason, and hands nothing on any more. It knows no
channels; who is asked for what is the affair of its owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import hiredis
from redis.exceptions import RedisError

from server.streams.connections import AsyncClient, new_connection
from server.streams.topology.node import INCOMPLETE, AsyncConnection, pack, transport_of

#: Called with channel and payload of each ring.
Ring = Callable[[bytes, bytes], None]
#: Called with whatever else Redis sends: confirmations (lists) and refusals (`hiredis.ReplyError`). Raises `OSError` if
#: the connection cannot go on after it.
Answer = Callable[[Any], None]

#: For everything from dialling to the greeting's last reply: a frozen server accepts a connection and says nothing.
_CONNECT_SECONDS: Final = 5.0
_RING: Final = b"smessage"


class PushConnection(asyncio.Protocol):
    """Belongs to one event loop. `open_push` makes one; its owner closes it, also after it was lost."""

    def __init__(self, connection: AsyncConnection, *, ring: Ring, answer: Answer) -> None:
        self._connection = connection
        self._ring = ring
        self._answer = answer
        self._replies = hiredis.Reader(notEnoughData=INCOMPLETE)
        #: When something was read last.
        self.heard_at = monotonic()
        #: Done when the connection is over; the result says why.
        self.lost: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
        #: Whether Redis takes no more for now. Ask for less instead of writing on.
        self.is_full = False
        #: Called when there is room again.
        self.on_room: Callable[[], None] = lambda: None
        self._transport = transport_of(connection)
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def send(self, commands: Iterable[tuple[bytes, ...]]) -> None:
        """Write commands in one piece, in this order. Redis answers each once, in the same order."""
        if not self.lost.done():
            self._transport.write(b"".join(map(pack, commands)))

    def give_up(self, reason: OSError) -> None:
        """The connection is of no more use."""
        if not self.lost.done():
            self.lost.set_result(reason)
            self._transport.abort()  # closing would wait until a frozen server has taken what was written

    async def aclose(self) -> None:
        """Close it and wait until the socket is gone."""
        self.give_up(ConnectionAbortedError("The connection was closed here."))
        with suppress(RedisError, OSError):
            await self._connection.disconnect()

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        if self.lost.done():
            return
        self.heard_at = monotonic()
        replies, ring = self._replies, self._ring
        try:
            replies.feed(data)
            while (reply := replies.gets()) is not INCOMPLETE:
                # A push of RESP3 is a list too, so both protocols read alike.
                if isinstance(reply, list) and len(reply) == 3 and reply[0] == _RING:  # pyright: ignore[reportUnknownArgumentType]
                    ring(reply[1], reply[2])  # pyright: ignore[reportUnknownArgumentType]
                else:
                    self._answer(reply)
        except hiredis.HiredisError as error:
            self.give_up(ConnectionAbortedError(f"Redis sent what is not its protocol: {error}"))
        except OSError as error:
            self.give_up(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc if isinstance(exc, OSError) else ConnectionResetError(_closed_text(exc)))
        self._before.connection_lost(exc)  # redis-py waits for it while it closes

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self.on_room()


async def open_push(client: AsyncClient, *, ring: Ring, answer: Answer) -> PushConnection:
    """Connect as `client` would. Raises `RedisError` or `OSError`, a `TimeoutError` among them."""
    connection = new_connection(client)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await connection.connect()
        await _check_silent(connection)
        return PushConnection(connection, ring=ring, answer=answer)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


async def _check_silent(connection: AsyncConnection) -> None:
    """What came with the greeting's replies would be lost: the parser that has it is not ours."""
    if await connection.can_read():
        raise ConnectionAbortedError("Redis sent something before it was asked for anything.")


def _closed_text(error: Exception | None) -> str:
    return str(error) if error else "Redis closed the connection."
