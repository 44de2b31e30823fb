"""Doorbells: sharded pub/sub for whoever watches channels of streams, by an ear at each server that has some.

Owns which ear listens to which channel. Invariant: a channel is listened to at the node that has its slot, and its
listener is told to look whenever a ring may have been missed: after a reconnect, or when the channel was moved to
another ear. Also the clock of "connected for how long", by which it is decided whether an expired lease may be judged
(docs/protocol.md, "Leases").

Theory of operation
-------------------
1. One server, or a master under Sentinel, has one ear, which is all there is. A Cluster has one at each node with
   slots.
2. A node that loses a slot ends the subscriptions of its channels, and refuses new ones. Then, after each look at the
   map of slots, and at once when an ear loses its connection, every channel goes to the ear at the slot's owner.
3. What is appended while a channel is between two ears rings in vain, so its listener gets an empty ring once the new
   one has confirmed it: to every listener that means "look yourself".

       ear A   ──── sunsubscribe x ◄─ slot moves         append: rung at B, where nobody listens
       ear B              SSUBSCRIBE x ──► confirmed ──► empty ring: look
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, cast

from redis.exceptions import RedisError

from server.streams.cancelling import cancel_all
from server.streams.connections import AsyncClient, cluster_of
from server.streams.ear import Ear
from server.streams.topology.address import Host
from server.streams.topology.cluster import ClusterClient
from server.streams.topology.slots import slot_of
from server.streams.watches import Listener

__all__ = ["Doorbells", "Listener"]

_log = logging.getLogger(__name__)

#: How often the map of slots is looked at while all is well: a slot that moves away tells so by itself.
_LOOK_SECONDS: Final = 2.0
#: While it is not.
_HURRY_SECONDS: Final = 0.1
#: Homes that are tried until one is in a slot of the node; a node with a hundredth of the slots needs a hundred.
_MOST_HOMES: Final = 20_000
_LOOK: Final = b""


class Doorbells:
    """Listens on any number of channels. `run` must be running; `watch` and `unwatch` may be called at any time."""

    def __init__(self, client: AsyncClient, *, home: str) -> None:
        """`home` is a channel of our own that keeps a connection subscribed and proves it alive."""
        self._home = home
        #: Called after each (re)connection, once everything is subscribed again.
        self.on_connect: Callable[[], None] = lambda: None
        #: Called when a connection is lost.
        self.on_disconnect: Callable[[], None] = lambda: None
        self._cluster = cluster_of(client)
        self._ears: dict[Host, Ear] = {}
        self._only: Ear | None = None
        if self._cluster is None:
            self._only = self._told_by(Ear(client, home=lambda: home))
        #: In a Cluster: every channel that is watched, by whom and at which ear, if there is one.
        self._watched: dict[str, tuple[Listener, Ear | None]] = {}
        self._moved: set[str] = set()
        #: Nodes whose ear was missed when their slots went to others, until those are heard.
        self._missed: set[Host] = set()
        self._wake = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether every connection stands and has proved it lately."""
        return bool(self._all) and all(ear.is_connected for ear in self._all)

    @property
    def connected_seconds(self) -> float:
        """For how long the present connections have stood; 0 while one is missing."""
        return min((ear.connected_seconds for ear in self._all), default=0.0)

    @property
    def watched(self) -> int:
        """How many channels are listened to."""
        return self._only.watched if self._only else len(self._watched)

    def watch(self, channel: str, listener: Listener, *, timeout_seconds: float = 5.0) -> asyncio.Future[None]:
        """Listen to a channel from now on. The future is done once Redis has confirmed it.

        Or after the timeout, if it was refused or left, or at once while there is no connection: `on_connect` then
        tells when to look again. It never fails. One that several wait for needs `asyncio.shield`.
        """
        if self._only:
            return self._only.watch(channel, listener, timeout_seconds=timeout_seconds)
        ear = self._ear_of(channel)
        before = self._watched.get(channel)
        if before and before[1] and before[1] is not ear:
            before[1].unwatch(channel)
        self._watched[channel] = listener, ear
        if ear is not None:
            return ear.watch(channel, listener, timeout_seconds=timeout_seconds)
        self._wake.set()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ready.set_result(None)
        return ready

    def unwatch(self, channel: str) -> None:
        """Stop listening to a channel; its listener is not called again."""
        if self._only:
            self._only.unwatch(channel)
            return
        _, ear = self._watched.pop(channel, (None, None))
        self._moved.discard(channel)
        if ear is not None:
            ear.unwatch(channel)

    async def run(self) -> None:
        """Keep the connections, for ever."""
        if self._only:
            await self._only.run()
        elif self._cluster:
            await self._run_in_cluster(self._cluster)

    @property
    def _all(self) -> list[Ear]:
        return [self._only] if self._only else list(self._ears.values())

    def _told_by(self, ear: Ear) -> Ear:
        ear.on_connect = self._connected
        ear.on_disconnect = self._disconnected
        return ear

    def _connected(self) -> None:
        self.on_connect()  # whoever that is by now

    def _disconnected(self) -> None:
        self._wake.set()
        self.on_disconnect()

    # In a Cluster.

    async def _run_in_cluster(self, cluster: ClusterClient) -> None:
        running: dict[Host, asyncio.Task[None]] = {}
        is_away = False
        try:
            while True:
                self._wake.clear()
                try:
                    await cluster.look()
                    is_away = False
                except (RedisError, OSError) as error:
                    if not is_away:
                        _log.warning("The nodes of the Cluster that tell of new events are not found: %s", error)
                    is_away = True
                await self._keep_ears(cluster, running)
                self._move()
                self._tell_of_successors()
                await self._pause()
        finally:
            self._ears.clear()
            await cancel_all(running.values())

    async def _keep_ears(self, cluster: ClusterClient, running: dict[Host, asyncio.Task[None]]) -> None:
        """One ear that runs for each node with slots."""
        masters = cluster.slots.masters
        for host in set(running) - masters:
            if self._ears.pop(host).is_missed:
                self._missed.add(host)
            await cancel_all([running.pop(host)])
        for host in sorted(masters - set(running)):
            ear = Ear(
                cast("AsyncClient", cluster.node(host)),
                home=lambda host=host: self._home_of(host),
                on_moved=lambda channel: self._lost(channel.decode()),
            )
            self._ears[host] = self._told_by(ear)
            running[host] = asyncio.create_task(ear.run(), name=f"ear at {host}")
        for task in running.values():
            if task.done():  # a bug: the supervisor of this loop logs it and begins again
                task.result()

    def _tell_of_successors(self) -> None:
        """End what the log was told of a node that never came back."""
        if self._missed and self.is_connected:
            for host in sorted(self._missed):
                _log.info("Other nodes of the Cluster tell of new events now, in the place of %s", host)
            self._missed.clear()

    def _move(self) -> None:
        """Have every channel listened to by the ear at its slot's owner."""
        moved, self._moved = self._moved, set()
        for channel, (listener, before) in list(self._watched.items()):
            ear = self._ear_of(channel)
            if ear is before and channel not in moved:
                continue
            if before is not None:
                before.unwatch(channel)
            self._watched[channel] = listener, ear
            if ear is not None:
                ear.watch(channel, listener).add_done_callback(lambda _, channel=channel: self._look(channel))

    def _look(self, channel: str) -> None:
        found = self._watched.get(channel)
        if found:
            found[0](_LOOK)

    def _lost(self, channel: str) -> None:
        self._moved.add(channel)
        self._wake.set()

    async def _pause(self) -> None:
        """Until the next look: soon while something is amiss, but not at once, or it would be asked without end."""
        began = monotonic()
        is_well = self.is_connected and not self._moved
        try:
            async with asyncio.timeout(_LOOK_SECONDS if is_well else _HURRY_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(max(0.0, began + _HURRY_SECONDS / 4 - monotonic()))

    def _ear_of(self, channel: str) -> Ear | None:
        host = self._cluster.slots.owner(slot_of(channel)) if self._cluster else None
        return self._ears.get(host) if host else None

    def _home_of(self, host: Host) -> str:
        """A channel of our own in a slot of this node."""
        for number in range(_MOST_HOMES):
            home = _variant(self._home, number) if number else self._home
            if self._cluster is None or self._cluster.slots.owner(slot_of(home)) == host:
                return home
        return self._home  # it has no slots any more, and refuses this one


def _variant(home: str, number: int) -> str:
    """Another channel, which begins alike: rights may depend on that."""
    return home.replace("}", f".{number}}}", 1) if "}" in home else f"{home}.{number}"
