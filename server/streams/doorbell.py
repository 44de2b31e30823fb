"""Doorbells: sharded pub/sub on one connection, for whoever watches channels of streams.

Owns the connection, its reconnects and its list of channels. A ring may be lost, late or repeated, so listeners treat
it as a hint: after every reconnect they are told to look for themselves. Also the clock of "connected for how long",
by which it is decided whether an expired lease may be judged (docs/protocol.md, "Leases").
Source: SSUBSCRIBE, Redis >= 7.0.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from redis.exceptions import RedisError

from server.streams.connections import AsyncClient, AsyncPubSub

_log = logging.getLogger(__name__)

#: Called with the payload of each ring.
Listener = Callable[[bytes], None]

_BACKOFF_SECONDS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
#: A silent socket is probed this often, so that a dead one is found.
_PROBE_SECONDS: Final = 5.0
#: A healthy socket takes a command at once.
_SEND_SECONDS: Final = 2.0


class Doorbells:
    """Listens on any number of channels. `run` must be running; `watch` and `unwatch` may be called at any time."""

    def __init__(self, client: AsyncClient, *, home: str) -> None:
        """`client` must have no socket timeout; `home` is a channel of our own that keeps the connection subscribed."""
        self._client = client
        self._home = home
        self._listeners: dict[bytes, Listener] = {}
        self._confirmations: dict[bytes, asyncio.Event] = {}
        self._pubsub: AsyncPubSub | None = None
        #: Commands go out one by one, so that leaving a channel cannot overtake coming back to it.
        self._order = asyncio.Lock()
        self._connected_at: float | None = None
        self._heard_at = 0.0
        #: Subscribes what was asked for while the connection was being made; until its home comes back.
        self._late: asyncio.Task[None] | None = None
        #: Called after each (re)connection, once everything is subscribed again.
        self.on_connect: Callable[[], None] = lambda: None
        #: Called when the connection is lost.
        self.on_disconnect: Callable[[], None] = lambda: None

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands and has proved it lately."""
        return self._connected_at is not None and monotonic() - self._heard_at < 3 * _PROBE_SECONDS

    @property
    def connected_seconds(self) -> float:
        """For how long the present connection has stood; 0 while there is none."""
        return monotonic() - self._connected_at if self._connected_at is not None else 0.0

    @property
    def watched(self) -> int:
        """How many channels are listened to."""
        return len(self._listeners)

    async def watch(self, channel: str, listener: Listener, *, timeout_seconds: float = 5.0) -> None:
        """Listen to a channel; returns once Redis has confirmed it.

        Or after the timeout, or at once while there is no connection: `on_connect` then tells when to look again.
        """
        key = channel.encode()
        self._listeners[key] = listener
        confirmed = self._confirmations.setdefault(key, asyncio.Event())
        async with self._order:
            if self._pubsub is None or self._connected_at is None:
                return
            await _send(self._pubsub.ssubscribe, channel)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await confirmed.wait()

    async def unwatch(self, channel: str) -> None:
        """Stop listening to a channel."""
        key = channel.encode()
        self._listeners.pop(key, None)
        self._confirmations.pop(key, None)
        async with self._order:
            if key not in self._listeners and self._pubsub is not None and self._connected_at is not None:
                await _send(self._pubsub.sunsubscribe, channel)

    async def run(self) -> None:
        """Keep the connection, for ever."""
        failures = 0
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError, TimeoutError) as error:
                failures = 1 if self._connected_at is not None else failures + 1
                if failures == 1:
                    _log.warning("The doorbell lost Redis: %s", error or type(error).__name__)
            finally:
                self._drop()
            await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS)) - 1] * random.uniform(0.7, 1.3))

    async def _listen_once(self) -> None:
        pubsub = self._client.pubsub()
        try:
            self._pubsub = pubsub
            # Home comes last: its confirmation says that everything before it is subscribed.
            await pubsub.ssubscribe(*[channel.decode() for channel in self._listeners], self._home)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=False, timeout=_PROBE_SECONDS)
                if message is None:
                    await self._probe(pubsub)
                else:
                    self._heard_at = monotonic()
                    self._handle(message)
        finally:
            self._pubsub = None  # first, or a watch would connect it again while it closes
            async with self._order:  # a command that is under way would find it half closed
                with suppress(RedisError, OSError):
                    await pubsub.aclose()

    async def _probe(self, pubsub: AsyncPubSub) -> None:
        """Ask for home again: a connection on which the answer does not come is dead, whatever the socket says."""
        if monotonic() - self._heard_at > 3 * _PROBE_SECONDS:
            raise TimeoutError("the subscription went silent")
        await pubsub.ssubscribe(self._home)

    def _handle(self, message: dict[str, Any]) -> None:
        channel: bytes = message["channel"]
        if message["type"] == "ssubscribe":
            if channel == self._home.encode():
                self._at_home()
            confirmed = self._confirmations.get(channel)
            if confirmed:
                confirmed.set()
        elif message["type"] == "smessage":
            listener = self._listeners.get(channel)
            if listener:
                listener(message["data"])

    def _at_home(self) -> None:
        """Everything asked for before home is subscribed now; watches that came meanwhile make a second round."""
        if self._connected_at is not None and self._late is None:
            return  # a probe came back
        self._connected_at = self._connected_at or monotonic()
        late = [channel.decode() for channel, event in self._confirmations.items() if not event.is_set()]
        self._late = None
        if late and self._pubsub is not None:
            self._late = asyncio.create_task(self._subscribe_late(late), name="watch late channels")
        self.on_connect()

    async def _subscribe_late(self, channels: list[str]) -> None:
        async with self._order:
            if self._pubsub is not None:
                await _send(self._pubsub.ssubscribe, *channels, self._home)

    def _drop(self) -> None:
        self._pubsub = None
        was_connected = self._connected_at is not None
        self._connected_at = self._late = None
        for event in self._confirmations.values():
            event.clear()
        if was_connected:
            self.on_disconnect()


async def _send(command: Callable[..., Awaitable[None]], *channels: str) -> None:
    """Bounded, because the next command and the end of the connection wait for it."""
    with suppress(RedisError, OSError):  # the reader meets the same error and reconnects
        async with asyncio.timeout(_SEND_SECONDS):
            await command(*channels)
