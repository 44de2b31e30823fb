"""Whom to believe where servers do not agree: sentinels on the master, nodes of a Cluster on the map of slots. Pure.

Invariant: what is known of a later failover is given up for nothing older, unless all who were asked have answered and
none has heard of it: then they were set up anew and count from the beginning. The news takes a second from one to the
other, and whoever is cut off from the rest never hears it, so answers are weighed by the epoch that they tell.
Source: redis.io, "Sentinel client spec", "Redis cluster specification"; SENTINEL MASTER, SENTINEL
GET-MASTER-ADDR-BY-NAME, CLUSTER INFO, CLUSTER SLOTS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from redis.exceptions import ConnectionError as RedisConnectionError

from server.streams.topology.address import Host
from server.streams.topology.slots import Ranges, read_slots, text_of

#: Nodes that are asked for the map at once: so many that one which is cut off is outvoted, and no more, for each answer
#: names every node and its replicas.
MOST_ASKED: Final = 8


class _Dated(Protocol):
    @property
    def epoch(self) -> int: ...


@dataclass(frozen=True, slots=True, order=True)
class Named:
    """A master, as one sentinel knows it."""

    #: Counts the failovers: the higher one is newer.
    epoch: int
    host: Host


@dataclass(frozen=True, slots=True)
class Map:
    """The map of slots, as one node has it."""

    #: Whether the node finds the Cluster in order, itself included.
    is_well: bool
    #: Counts elections: a node that has not heard of the last one is behind.
    epoch: int
    ranges: Ranges


def is_enough(answers: Sequence[_Dated], *, of: int, known: _Dated | None) -> bool:
    """Whether the rest need not be waited for: a majority answered, and one of it knows what was known before.

    A majority, for it takes one to replace a master: so one of any other majority has heard of it, or will in a second.
    """
    return len(answers) * 2 > of and not _are_behind(answers, known)


def newest(answers: Sequence[Named], *, of: int, known: Named | None) -> Named:
    """The master to go to, by what those said who answered, at least one.

    While one is silent that may know of the last failover, those that have not heard of it lead nobody back.
    """
    return known if known and _are_behind(answers, known) and len(answers) < of else max(answers)


def choose_map(answers: Sequence[Map], *, of: int, known: Map | None) -> Map:
    """The map to go by, by what those said who answered, at least one.

    Of the same epoch, that of a node which finds all well counts, then the one that most have: a vote for a replica
    tells its epoch to all before the replica has the slots, and the move of a slot need not count the epoch up.
    """
    if known and _are_behind(answers, known) and len(answers) < of:
        return known
    votes = Counter(answer.ranges for answer in answers)
    return max(answers, key=lambda answer: (answer.epoch, answer.is_well, votes[answer.ranges]))


def _are_behind(answers: Sequence[_Dated], known: _Dated | None) -> bool:
    return known is not None and max(answer.epoch for answer in answers) < known.epoch


def questions(service: str) -> list[tuple[str, str, str]]:
    """The commands whose replies `read_master` takes.

    Two, for the sentinel that leads a failover counts it as soon as the replica is promoted, but until all replicas
    have followed, SENTINEL MASTER goes on naming the old master.
    """
    return [("SENTINEL", "MASTER", service), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)]


def read_master(about: Any, address: Any) -> Named:
    """What a sentinel says of the master. Raises `RedisError` for what is no such answer."""
    for reply in (about, address):
        if isinstance(reply, Exception):
            raise RedisConnectionError(str(reply))
    try:
        if isinstance(about, list):  # RESP2
            parts = cast("list[bytes]", about)
            about = dict(zip(parts[::2], parts[1::2], strict=True))
        fields = {text_of(name): text_of(value) for name, value in cast("Mapping[Any, Any]", about).items()}
        name, port = map(text_of, address)
        return Named(int(fields.get("config-epoch", 0)), Host(name, int(port)))
    except (AttributeError, TypeError, ValueError) as error:
        raise RedisConnectionError(f"a sentinel answered with what cannot be read: {error!r}") from error


def read_map(info: Any, slots: Any, *, asked: Host) -> Map:
    """What CLUSTER INFO and CLUSTER SLOTS say. Raises `RedisError` for what is no such answer."""
    if isinstance(info, Exception):
        raise RedisConnectionError(str(info))
    ranges = read_slots(slots, asked=asked)
    if not ranges:
        raise RedisConnectionError(f"{asked} knows of no slots")
    lines = [line.partition(":") for line in text_of(info).splitlines()]
    fields = {name: value for name, _, value in lines}
    try:
        return Map(fields["cluster_state"] == "ok", int(fields["cluster_current_epoch"]), ranges)
    except (KeyError, ValueError) as error:
        told = f"{asked} answered CLUSTER INFO with what cannot be read: {error!r}"
        raise RedisConnectionError(told) from error
