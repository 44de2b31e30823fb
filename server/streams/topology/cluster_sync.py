"""The same as `cluster` for threads, as far as a lease keeper needs it: commands, and several in one round trip.

Nodes are asked one after the other. One that did not answer last time comes last, so that the leases of the others are
renewed before a frozen node has used up their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, Final, cast

import redis
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from server.streams.jitter import jitter
from server.streams.topology.address import Address, Host
from server.streams.topology.belief import MOST_ASKED, Map, choose_map, is_enough, read_map
from server.streams.topology.node import Command, options_for, sync_node_client
from server.streams.topology.slots import SlotMap, key_of, redirected_to, slot_of

#: A node that takes longer to tell the map is as good as dead: there are others.
_LOOK_TIMEOUT_SECONDS: Final = 1.0
#: Renewals are tried again as often while Redis is away; the map need not be asked for more often.
_LOOK_PAUSE_SECONDS: Final = 0.2
#: More redirections than a slot can need while it moves once.
_MOST_REDIRECTIONS: Final = 5


class SyncClusterClient:
    """Commands by slot; for one thread."""

    def __init__(self, address: Address, *, name: str, socket_timeout: float | None) -> None:
        self._address = address
        self._options = options_for(address, name=name, socket_timeout=socket_timeout)
        self._look_options = options_for(address, name=name, socket_timeout=_LOOK_TIMEOUT_SECONDS)
        self._nodes: dict[Host, redis.Redis] = {}
        self._slots = SlotMap()
        #: The map that was believed last; `_slots` may have been corrected since.
        self._known: Map | None = None
        self._is_look_due = True
        self._looked_at = float("-inf")
        #: Nodes that did not answer last time.
        self._silent: set[Host] = set()

    def execute_command(self, *command: Any) -> Any:
        (reply,) = self.execute_each([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, *, transaction: bool) -> SyncClusterPipeline:
        if transaction:
            raise NotImplementedError("No thread needs a MULTI.")
        return SyncClusterPipeline(self)

    def execute_each(self, commands: Sequence[Command]) -> list[Any]:
        """Replies, and the error in the place of each command that was refused or whose node did not answer."""
        self._look_if_due()
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for _ in range(_MOST_REDIRECTIONS):
            places: dict[Host, list[int]] = {}
            for place in left:
                host = self._owner(commands[place])
                if host is None:
                    replies[place] = RedisConnectionError("no node of the Cluster is known to have the slot")
                else:
                    places.setdefault(host, []).append(place)
            for host in sorted(places, key=lambda each: each in self._silent):
                some = [commands[place] for place in places[host]]
                for place, reply in zip(places[host], self._ask(host, some), strict=True):
                    replies[place] = self._asked_elsewhere(commands[place], reply, asked=host)
            left = [place for place in left if isinstance(replies[place], MovedError)]
            if not left:
                break
        return replies

    def owner_of(self, key: str) -> Host | None:
        """The node that is asked for the key."""
        return self._slots.owner(slot_of(key))

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()

    def _ask(self, host: Host, commands: Sequence[Command]) -> list[Any]:
        pipe = cast("Any", self._node(host)).pipeline(transaction=False)
        try:
            for command in commands:
                pipe.execute_command(*command)
            replies = cast("list[Any]", pipe.execute(raise_on_error=False))
        except (RedisError, OSError) as error:
            self._silent.add(host)
            self._is_look_due = True
            return [error if isinstance(error, RedisError) else RedisConnectionError(str(error))] * len(commands)
        finally:
            pipe.reset()
        self._silent.discard(host)
        return replies

    def _asked_elsewhere(self, command: Command, reply: Any, *, asked: Host) -> Any:
        """The reply, or that of the node to which this one sent us for this command."""
        if isinstance(reply, MovedError):
            self._slots.move(reply.slot_id, redirected_to(reply, asked=asked))
        elif isinstance(reply, AskError):
            return self._ask(redirected_to(reply, asked=asked), [("ASKING",), command])[-1]
        elif isinstance(reply, (ClusterDownError, TryAgainError)):
            self._is_look_due = True
        return reply

    def _owner(self, command: Command) -> Host | None:
        key = key_of(command)
        if key is not None:
            return self._slots.owner(slot_of(key))
        return min(self._slots.masters, default=None)

    def _node(self, host: Host) -> redis.Redis:
        found = self._nodes.get(host)
        if found is None:
            found = self._nodes[host] = sync_node_client(self._address.url_of(host), **self._options)
        return found

    def _look_if_due(self) -> None:
        if not self._is_look_due or monotonic() - self._looked_at < _LOOK_PAUSE_SECONDS:
            return
        hosts = list({*self._slots.masters, *self._address.hosts})
        hosts = jitter.sample(hosts, min(len(hosts), MOST_ASKED))
        answers: list[Map] = []
        faults: list[str] = []
        for host in sorted(hosts, key=lambda each: each in self._silent):
            try:
                answers.append(self._ask_for_map(host))
                self._silent.discard(host)
            except (RedisError, OSError) as error:
                faults.append(str(error))
                self._silent.add(host)
            if is_enough(answers, of=len(hosts), known=self._known):
                break
        if answers:
            found = choose_map(answers, of=len(hosts), known=self._known)
            if found is not self._known:  # or there is no news, and what nodes corrected since stays so
                self._known = found
                self._slots.replace(found.ranges)
                self._forget_nodes()
                self._is_look_due = not found.is_well
        self._looked_at = monotonic()
        if not self._slots.masters:
            raise RedisConnectionError(f"no node of the Cluster told the map of slots: {'; '.join(faults)}")

    def _forget_nodes(self) -> None:
        """Close what leads to nodes without slots: where addresses change with each restart they would add up."""
        for host in self._nodes.keys() - self._slots.masters - set(self._address.hosts):
            self._nodes.pop(host).close()
            self._silent.discard(host)

    def _ask_for_map(self, host: Host) -> Map:
        with sync_node_client(self._address.url_of(host), **self._look_options) as client:
            info, slots = (cast("Any", client).execute_command("CLUSTER", word) for word in ("INFO", "SLOTS"))
        return read_map(info, slots, asked=host)


class SyncClusterPipeline:
    """Collects commands, as redis-py's pipeline does."""

    def __init__(self, client: SyncClusterClient) -> None:
        self._client = client
        self._commands: list[Command] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def execute(self, *, raise_on_error: bool) -> list[Any]:
        commands, self._commands = self._commands, []
        return self._client.execute_each(commands) if commands else []

    def reset(self) -> None:
        self._commands = []
