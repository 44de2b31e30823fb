"""An ear at one server: sharded pub/sub on one connection.

Owns the connection, its reconnects and its probe. A ring may be lost, late or repeated, so listeners treat it as a
hint: after every reconnect they are told to look for themselves. Which channels are this server's is for its owner.
Source: SSUBSCRIBE, Redis >= 7.0.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, NoReturn

from redis.exceptions import RedisError

from server.streams.connections import AsyncClient
from server.streams.jitter import jitter
from server.streams.push import PushConnection, open_push
from server.streams.watches import Listener, Watches

_log = logging.getLogger(__name__)

_BACKOFF_SECONDS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
#: A silent socket is probed this often, so that a dead one is found.
_PROBE_SECONDS: Final = 5.0
#: So many probes in a row without a sign of life, and the connection is dead, whatever the socket says.
_PROBES: Final = 3
#: Commands per write: what one turn of the event loop may spend on them, some two milliseconds; Redis needs one.
_BATCH: Final = 512


class Ear:
    """Listens on any number of channels. `run` must be running; `watch` and `unwatch` may be called at any time.

    What is watched and left in one turn of the event loop goes to Redis in one write, without an asyncio task.
    """

    def __init__(
        self, client: AsyncClient, *, home: Callable[[], str], on_moved: Callable[[bytes], None] | None = None
    ) -> None:
        """`home` is a channel of our own that keeps the connection subscribed and proves it alive.

        `on_moved` is told of a channel that is at another node of the Cluster; without, that ends the connection.
        """
        self._client = client
        self._home = home
        self._watches = Watches(home().encode(), on_moved=on_moved)
        self._push: PushConnection | None = None
        self._connected_at: float | None = None
        #: Connections that failed since home was confirmed last.
        self._failures = 0
        #: Whether the next turn of the event loop will send what is due.
        self._is_sending = False
        #: Called after each (re)connection, once everything is subscribed again.
        self.on_connect: Callable[[], None] = lambda: None
        #: Called when the connection is lost.
        self.on_disconnect: Callable[[], None] = lambda: None

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands and has proved it lately."""
        if self._push is None or self._connected_at is None:
            return False
        return monotonic() - self._push.heard_at < _PROBES * _PROBE_SECONDS

    @property
    def connected_seconds(self) -> float:
        """For how long the present connection has stood; 0 while there is none."""
        return monotonic() - self._connected_at if self._connected_at is not None else 0.0

    @property
    def is_missed(self) -> bool:
        """Whether the log was told that the connection is down, and not yet that it is up again."""
        return self._failures > 0

    @property
    def watched(self) -> int:
        """How many channels are listened to."""
        return len(self._watches)

    def watch(self, channel: str, listener: Listener, *, timeout_seconds: float = 5.0) -> asyncio.Future[None]:
        """Listen to a channel from now on. The future is done once Redis has confirmed it.

        Or after the timeout, if it was refused or left, or at once while there is no connection: `on_connect` then
        tells when to look again. It never fails. One that several wait for needs `asyncio.shield`.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        watch = self._watches.want(channel.encode(), listener)
        if watch.is_confirmed or self._push is None:
            ready.set_result(None)
            return ready
        timer = loop.call_later(timeout_seconds, _finish, ready)

        def settle() -> None:
            timer.cancel()
            _finish(ready)

        watch.on_settled.append(settle)
        self._send_soon()
        return ready

    def unwatch(self, channel: str) -> None:
        """Stop listening to a channel; its listener is not called again."""
        self._watches.leave(channel.encode())
        self._send_soon()

    async def run(self) -> None:
        """Keep the connection, for ever."""
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:  # a timeout is an OSError
                self._failures += 1
                if self._failures == 1:
                    _log.warning("The connection that tells of new events is down: %s", error or type(error).__name__)
            pause = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS)) - 1]
            await asyncio.sleep(pause * jitter.uniform(0.7, 1.3))

    async def _listen_once(self) -> None:
        home = self._home().encode()
        push = await open_push(self._client, ring=self._watches.ring, answer=self._answer)
        try:
            push.on_room = self._send
            self._push = push
            self._watches.begin(home)
            self._send()
            await self._watch_over(push)
        finally:
            self._drop()
            await push.aclose()

    async def _watch_over(self, push: PushConnection) -> NoReturn:
        """Raise when the connection is lost or answers no more."""
        heard_at, silent = 0.0, 0
        while True:
            await asyncio.wait([push.lost], timeout=_PROBE_SECONDS)
            if push.lost.done():
                raise push.lost.result()
            # By rounds, not by the clock: after a standstill of this process the answers are there, only not read yet.
            silent = 0 if push.heard_at != heard_at else silent + 1
            heard_at = push.heard_at
            if silent > _PROBES:
                raise TimeoutError("the subscription went silent")
            if silent or self._watches.has_refused:
                self._watches.prove()
                self._send()

    def _send_soon(self) -> None:
        """Once for all changes of this turn."""
        if not self._is_sending and self._push is not None:
            self._is_sending = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_sending = False
        push = self._push
        if push is None or push.is_full:
            return  # the next connection begins with everything; a full one says when there is room
        commands = self._watches.take(_BATCH)
        if commands:
            push.send(commands)
        if self._watches.is_due:
            self._send_soon()

    def _answer(self, reply: Any) -> None:
        is_home = self._watches.answer(reply)
        if is_home and self._connected_at is None:
            self._connected_at = monotonic()
            if self._failures:
                _log.info("The connection that tells of new events is up again")
            self._failures = 0
            self.on_connect()

    def _drop(self) -> None:
        was_connected = self._connected_at is not None
        self._push = self._connected_at = None
        self._watches.end()
        if was_connected:
            self.on_disconnect()


def _finish(ready: asyncio.Future[None]) -> None:
    if not ready.done():  # its owner may have been cancelled while it waited
        ready.set_result(None)
