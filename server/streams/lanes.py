"""The lanes of a process: one, or in a Cluster one to each node, each with the writers whose streams are there.

Invariant: a writer is enlisted in one lane at most, and so its calls stay in order while its slot moves. A call that a
node refused to run goes on at the node which that one named; whoever waited in the lane of a node that lost the slot,
or died, waits in that of its successor. Knows nothing of what calls mean.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, Protocol, cast

from redis.exceptions import RedisError

from server.streams.bulk import BulkConnection, Redirected, open_bulk
from server.streams.calls import Call
from server.streams.connections import AsyncClient, cluster_of, unavailable
from server.streams.durability import Durability
from server.streams.lane import Lane, Source, Way
from server.streams.topology.address import Host
from server.streams.topology.cluster import ClusterClient
from server.streams.topology.slots import slot_of

#: Below the pause in which a replica is promoted, above what a look takes.
_LOOK_AGAIN_SECONDS: Final = 0.25
#: Then the map is asked for again: a frozen node takes connections and says nothing.
_DIAL_SECONDS: Final = 2.0


class Keyed(Source, Protocol):
    """A writer that says which stream is his."""

    @property
    def key(self) -> str: ...


class Lanes:
    """As one lane to those who enlist. Belongs to one event loop."""

    def __init__(self, cluster: ClusterClient, *, delay_seconds: float, durability: Durability) -> None:
        self._cluster = cluster
        self._delay_seconds = delay_seconds
        self._durability = durability
        self._lanes: dict[Host, Lane] = {}
        self._connections: dict[Host, BulkConnection] = {}
        #: Who waits for the map of slots.
        self._lost: list[tuple[Keyed, bool]] = []
        self._finding: asyncio.Task[None] | None = None
        self._is_closed = False
        #: Counted by the writers: what they hold and do not know to be stored.
        self.unsent_bytes = 0
        cluster.on_change.append(self._sort)

    @property
    def trouble(self) -> str:
        """Why nothing is stored at the moment at one of the nodes; empty if all is well."""
        return next((lane.trouble for lane in self._lanes.values() if lane.trouble), "")

    def enlist(self, source: Keyed, *, hurry: bool = False) -> None:
        """Have a writer asked for its call in the next trip to its node."""
        host = self._cluster.slots.owner(slot_of(source.key))
        if host is not None:
            self._lane(host).enlist(source, hurry=hurry)
            return
        self._lost.append((source, hurry))
        if self._finding is None and not self._is_closed:
            self._finding = asyncio.create_task(self._find(), name="lanes look for their nodes")

    def hurry(self) -> None:
        """Somebody waits until his events are stored: begin the next trips as soon as can be."""
        for lane in self._lanes.values():
            lane.hurry()

    async def aclose(self) -> None:
        """Send nothing more, and close every connection. What is under way is unknown."""
        self._is_closed = True
        self._cluster.on_change.remove(self._sort)
        if self._finding:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        for lane in self._lanes.values():
            await lane.aclose()

    def _lane(self, host: Host) -> Lane:
        found = self._lanes.get(host)
        if found is None:
            found = self._lanes[host] = Lane(
                lambda: self._dial(host),
                delay_seconds=self._delay_seconds,
                durability=self._durability,
                on_redirect=self._redirect,
            )
        return found

    async def _dial(self, host: Host) -> BulkConnection:
        self._cluster.look_soon()  # a connection was lost, or none can be made: the slots may be elsewhere
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                found = await open_bulk(cast("AsyncClient", self._cluster.node(host)))
        except TimeoutError as error:
            raise unavailable(error) from error
        self._connections[host] = found
        return found

    def _redirect(self, source: Source, call: Call[Any], refusal: Redirected) -> bool:
        where = refusal.where
        if not where.asks:
            self._cluster.moved(where.slot, where.host)
        self._lane(where.host).ask(source, call, Way.ASKING if where.asks else Way.MOVED)
        return True

    def _sort(self) -> None:
        """Have everybody wait in the lane of the node that has his stream now."""
        for host, connection in list(self._connections.items()):
            if host not in self._cluster.slots.masters:
                del self._connections[host]
                connection.give_up("It has no slots any more.")
        for host, lane in self._lanes.items():
            if host not in self._cluster.slots.masters:
                lane.trouble = ""  # no trip ends there any more
        waiting = [(cast("Keyed", source), True) for lane in self._lanes.values() for source in lane.withdraw()]
        lost, self._lost = self._lost, []
        for source, hurry in [*waiting, *lost]:
            self.enlist(source, hurry=hurry)

    async def _find(self) -> None:
        try:
            while self._lost:
                try:
                    await self._cluster.look()
                except (RedisError, OSError):
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                else:
                    self._sort()
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS if self._lost else 0)
        finally:
            self._finding = None


def open_lane(
    client: AsyncClient, *, delay_seconds: float = 0.0, durability: Durability = Durability.FAST
) -> Lane | Lanes:
    """What writers share that are connected as `client` is. Its owner closes it, before the client."""
    cluster = cluster_of(client)
    if cluster is not None:
        return Lanes(cluster, delay_seconds=delay_seconds, durability=durability)
    return Lane(partial(open_bulk, client), delay_seconds=delay_seconds, durability=durability)
