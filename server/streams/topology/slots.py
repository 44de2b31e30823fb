"""Which node of a Cluster has which keys: slots, who owns them, and what a node says when it is asked in vain. Pure.

A refusal that is a redirection proves that the command did not run, so it may be sent again elsewhere.
Source: redis.io, "Redis cluster specification"; CLUSTER SLOTS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError
from redis.exceptions import ConnectionError as RedisConnectionError

from server.streams.topology.address import Host

#: First slot, last slot, owner.
Ranges = tuple[tuple[int, int, Host], ...]

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS
#: Commands whose second word is not their key.
_KEY_AT: Final = {
    "EVAL": 3, "EVALSHA": 3, "PUBSUB": 2, "XGROUP": 2, "XINFO": 2, "OBJECT": 2, "MEMORY": 2,
}  # fmt: skip
_WITHOUT_KEY: Final = frozenset(
    {"PING", "TIME", "INFO", "CONFIG", "CLIENT", "CLUSTER", "SCRIPT", "ACL", "KEYS", "ROLE", "DBSIZE", "ECHO"}
)


def slot_of(key: str | bytes) -> int:
    """The slot of a key or of a sharded channel."""
    return key_slot(key.encode() if isinstance(key, str) else key)


def key_of(command: Sequence[Any]) -> str | bytes | None:
    """The first key that a command names; the others are in the same slot. None for a command without."""
    name = text_of(command[0]).upper()
    if name in _WITHOUT_KEY or len(command) < 2:
        return None
    if name in {"XREADGROUP", "XREAD"}:
        words = [text_of(word).upper() if isinstance(word, (str, bytes)) else "" for word in command[:12]]
        return command[words.index("STREAMS") + 1]
    if name in {"EVAL", "EVALSHA"} and not int(command[2]):
        return None
    return command[_KEY_AT.get(name, 1)]


@dataclass(frozen=True, slots=True)
class Redirection:
    """Where else to ask."""

    slot: int
    host: Host
    #: Whether only this command is to be asked there, behind ASKING: the slot is on its way, and this key is there.
    asks: bool


def redirection(refusal: str) -> Redirection | None:
    """What "MOVED 3999 127.0.0.1:6381" or "ASK …" says; None for any other refusal, or without a host."""
    word, _, rest = refusal.partition(" ")
    slot, _, place = rest.partition(" ")
    name, _, port = place.partition(" ")[0].rpartition(":")
    if word not in {"MOVED", "ASK"} or not slot.isdecimal() or not port.isdecimal() or name in {"", "?"}:
        return None
    return Redirection(int(slot), Host(name, int(port)), word == "ASK")


def redirected_to(error: AskError, *, asked: Host) -> Host:
    """Where redis-py's error (MOVED is one of these too) says to ask; a node may leave its own name out."""
    name, port = cast("tuple[str, int]", cast("Any", error).node_addr)
    return Host(name or asked.name, port)


class SlotMap:
    """The owner of each slot, as far as it is known."""

    def __init__(self) -> None:
        self._owners: list[Host | None] = [None] * SLOTS
        #: What it was made of, unless a slot was moved since: to compare all slots takes milliseconds.
        self._ranges: Ranges = ()
        #: Nodes that own slots.
        self.masters: frozenset[Host] = frozenset()
        #: Counts every change.
        self.version = 0

    def owner(self, slot: int) -> Host | None:
        return self._owners[slot]

    def move(self, slot: int, host: Host) -> None:
        """One slot is elsewhere."""
        if self._owners[slot] != host:
            self._owners[slot] = host
            self._ranges = ()
            self._changed()

    def replace(self, ranges: Ranges) -> None:
        """What a node says of all slots."""
        if ranges == self._ranges:
            return
        owners: list[Host | None] = [None] * SLOTS
        for first, last, host in ranges:
            owners[first : last + 1] = [host] * (last + 1 - first)
        self._ranges = ranges
        if owners != self._owners:
            self._owners = owners
            self._changed()

    def _changed(self) -> None:
        self.masters = frozenset(host for host in set(self._owners) if host is not None)
        self.version += 1


def read_slots(reply: Any, *, asked: Host) -> Ranges:
    """What CLUSTER SLOTS says, in the order of the slots. Raises `RedisError` for what is no such answer."""
    if isinstance(reply, Exception):
        raise RedisConnectionError(str(reply))
    ranges: list[tuple[int, int, Host]] = []
    try:
        for first, last, master, *_ in cast("list[list[Any]]", reply):
            name = text_of(master[0]) if master[0] else ""
            host = Host(name if name not in {"", "?"} else asked.name, int(master[1]))
            ranges.append((int(first), int(last), host))
    except (TypeError, ValueError, IndexError) as error:
        raise RedisConnectionError(f"{asked} answered CLUSTER SLOTS with what cannot be read: {error}") from error
    return tuple(sorted(ranges))


def text_of(value: Any) -> str:
    """What Redis sent as text, in either protocol."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
