"""Whether a Redis can be trusted with logs: asked when a process starts, and again until it can.

Some settings break promises silently: an eviction policy removes whole logs, a replica answers with the past. Those are
refused with a sentence that says which server it is about and what to change; what only costs durability is a warning,
unless REPRISE_DURABILITY asks for more than this Redis can do. Source: INFO, CONFIG GET, CLIENT INFO.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from server.streams.connections import AsyncClient, cluster_of, each_node, execute, name_of
from server.streams.durability import Durability
from server.streams.errors import LogUnavailable

_T = TypeVar("_T")

#: Sharded pub/sub, and scripts that see their own keys only.
_OLDEST: Final = (7, 0)
_OLDEST_WITH_WAITAOF: Final = (7, 2)
_IS_SENTINEL: Final = (
    "This is a Sentinel, which has no data and only knows who has. "
    "Name it as redis+sentinel://host:26379/name-of-the-master in REPRISE_REDIS_URL."
)


@dataclass(frozen=True, slots=True)
class Suitability:
    """Sentences for a person: why this Redis must not be used, and what it may lose."""

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    #: The refusals for whoever may ask: without the names of servers, which only the log may know.
    plain_refusals: tuple[str, ...] = ()


async def examine(client: AsyncClient, durability: Durability = Durability.FAST) -> Suitability:
    """Look at each server behind `client`. Raises `LogUnavailable` if one does not answer."""
    in_cluster = cluster_of(client) is not None
    refusals: list[tuple[str, str]] = []
    warnings: list[tuple[str, str]] = []
    for node in await each_node(client):
        found = await _examine_node(node, durability, in_cluster=in_cluster)
        name = await _name(node) if found.refusals or found.warnings else ""
        refusals.extend((name, sentence) for sentence in found.refusals)
        warnings.extend((name, sentence) for sentence in found.warnings)
    plain = tuple(dict.fromkeys(sentence for _, sentence in refusals))
    return Suitability(_with_names(refusals), _with_names(warnings), plain)


async def lacking(client: AsyncClient, durability: Durability) -> tuple[str, ...]:
    """What of the durability each server behind `client` cannot do. Raises `LogUnavailable`."""
    found: list[tuple[str, str]] = []
    for node in await each_node(client):
        info = cast("dict[str, Any]", await execute(node, "INFO"))
        if sentence := _about_durability(info, durability, await _appendfsync(node, durability)):
            found.append((await _name(node), sentence))
    return _with_names(found)


def _with_names(found: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Each sentence once, with the servers of which it is true: a Cluster has several, and Sentinel leads anywhere."""
    names: dict[str, list[str]] = {}
    for name, sentence in found:
        names.setdefault(sentence, []).append(name)
    return tuple(
        f"{' and '.join(known)}: {sentence}" if (known := [each for each in where if each]) else sentence
        for sentence, where in names.items()
    )


async def _name(node: AsyncClient) -> str:
    return await _unless_refused(name_of(node)) or ""


async def _examine_node(client: AsyncClient, durability: Durability, *, in_cluster: bool) -> Suitability:
    info = cast("dict[str, Any]", await execute(client, "INFO"))
    save = await _setting(client, "save")
    appendfsync = await _appendfsync(client, durability)
    return judge(info, save=save, durability=durability, appendfsync=appendfsync, in_cluster=in_cluster)


async def _appendfsync(client: AsyncClient, durability: Durability) -> str | None:
    return await _setting(client, "appendfsync") if durability is Durability.FSYNC else None


async def _setting(client: AsyncClient, wanted: str) -> str | None:
    """A setting of the server; None where it keeps CONFIG to itself, as hosted ones often do."""
    found = cast("dict[Any, Any] | None", await _unless_refused(execute(client, "CONFIG", "GET", wanted)))
    return next((_text(value) for name, value in (found or {}).items() if _text(name) == wanted), None)


async def _unless_refused(asked: Awaitable[_T]) -> _T | None:
    """What was asked, or None where an ACL or a proxy in between forbids it. Silence says nothing: it raises."""
    try:
        return await asked
    except LogUnavailable as error:
        if not error.code:
            raise
        return None


def judge(
    info: Mapping[str, Any],
    *,
    save: str | None,
    durability: Durability = Durability.FAST,
    appendfsync: str | None = None,
    in_cluster: bool = False,
) -> Suitability:
    """The verdict on what INFO says, and on the settings `save` and `appendfsync` (None: not known).

    `in_cluster` says that we speak to it as to a Cluster.
    """
    if str(info.get("redis_mode", info.get("server_mode", ""))) == "sentinel":  # the second is Valkey's word
        return Suitability((_IS_SENTINEL,), (), (_IS_SENTINEL,))
    refusals = tuple(
        sentence
        for sentence in (
            _about_version(info),
            _about_role(info),
            None if in_cluster else _about_cluster(info),
            _about_eviction(info),
            _about_durability(info, durability, appendfsync),
        )
        if sentence is not None
    )
    return Suitability(refusals, tuple(_about_persistence(info, save)), refusals)


def _about_version(info: Mapping[str, Any]) -> str | None:
    # Valkey says which Redis it is like; every Valkey is new enough.
    version = str(info.get("redis_version", ""))
    numbers = _numbers(version)
    if not numbers or numbers >= _OLDEST:
        return None
    return f"Redis is version {version}. Reprise needs Redis 7.0 or later, or Valkey 7.2 or later."


def _about_role(info: Mapping[str, Any]) -> str | None:
    if info.get("role", "master") == "master":
        return None
    return "This Redis is a replica: it refuses writes and may show the past. Point REPRISE_REDIS_URL at the master."


def _about_cluster(info: Mapping[str, Any]) -> str | None:
    if str(info.get("cluster_enabled", "0")) != "1":
        return None
    return (
        "This Redis is a node of a Cluster, which has only some of the keys. "
        "Name it with redis+cluster:// in REPRISE_REDIS_URL."
    )


def _about_eviction(info: Mapping[str, Any]) -> str | None:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return None
    return (
        f"Redis has maxmemory-policy {policy!r}, by which it removes whole streams when memory is short. "
        "Set it with 'CONFIG SET maxmemory-policy noeviction', and in its configuration file."
    )


def _about_durability(info: Mapping[str, Any], durability: Durability, appendfsync: str | None) -> str | None:
    asked = f"REPRISE_DURABILITY is {durability.value!r}"
    way_out = "or set REPRISE_DURABILITY=fast"
    if durability is Durability.REPLICATED and int(info.get("connected_slaves", 0)) < 1:
        return f"{asked}, and no replica is connected to this Redis. Connect one, {way_out}."
    if durability is not Durability.FSYNC:
        return None
    version = str(info.get("redis_version", ""))
    numbers = _numbers(version)
    if numbers and numbers < _OLDEST_WITH_WAITAOF:
        return f"{asked}, which needs Redis 7.2 or later, or Valkey; this is version {version}. Upgrade it, {way_out}."
    if str(info.get("aof_enabled", "1")) != "1":
        return f"{asked}, and this Redis has no append-only file. Set 'appendonly yes', {way_out}."
    if appendfsync == "no":
        return (
            f"{asked}, and this Redis leaves syncing to the system. Set 'appendfsync everysec' or 'always', {way_out}."
        )
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _about_persistence(info: Mapping[str, Any], save: str | None) -> list[str]:
    if str(info.get("aof_enabled", "1")) == "1":
        return []
    if save == "":
        return ["Redis keeps nothing across a restart: neither 'appendonly' nor 'save' is set."]
    return ["Redis loses what it wrote since its last snapshot when it is killed: 'appendonly' is not set."]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
