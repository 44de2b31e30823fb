"""Whether a Redis can be trusted with logs: asked when a process starts, and again until it can.

Some settings break promises silently: an eviction policy removes whole logs, a replica answers with the past. Those are
refused with a sentence that says what to change; what only costs durability is a warning. Source: INFO, CONFIG GET.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from server.streams.connections import AsyncClient, cluster_of, each_node, execute
from server.streams.errors import LogUnavailable

#: Sharded pub/sub, and scripts that see their own keys only.
_OLDEST: Final = (7, 0)


@dataclass(frozen=True, slots=True)
class Suitability:
    """Sentences for a person: why this Redis must not be used, and what it may lose."""

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


async def examine(client: AsyncClient) -> Suitability:
    """Look at each server behind `client`. Raises `LogUnavailable` if one does not answer."""
    found = [await _examine_node(node, in_cluster=cluster_of(client) is not None) for node in await each_node(client)]
    return Suitability(
        tuple(dict.fromkeys(sentence for each in found for sentence in each.refusals)),
        tuple(dict.fromkeys(sentence for each in found for sentence in each.warnings)),
    )


async def _examine_node(client: AsyncClient, *, in_cluster: bool) -> Suitability:
    info = cast("dict[str, Any]", await execute(client, "INFO"))
    save: str | None = None
    with suppress(LogUnavailable):  # hosted servers often keep CONFIG to themselves
        found = cast("dict[Any, Any]", await execute(client, "CONFIG", "GET", "save"))
        save = next((_text(value) for name, value in found.items() if _text(name) == "save"), None)
    return judge(info, save=save, in_cluster=in_cluster)


def judge(info: Mapping[str, Any], *, save: str | None, in_cluster: bool = False) -> Suitability:
    """The verdict on what INFO says, and on the `save` setting (None: not known).

    `in_cluster` says that we speak to it as to a Cluster.
    """
    refusals = [
        sentence
        for sentence in (
            _about_version(info),
            _about_role(info),
            None if in_cluster else _about_cluster(info),
            _about_eviction(info),
        )
        if sentence is not None
    ]
    return Suitability(tuple(refusals), tuple(_about_persistence(info, save)))


def _about_version(info: Mapping[str, Any]) -> str | None:
    # Valkey says which Redis it is like; every Valkey is new enough.
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
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


def _about_persistence(info: Mapping[str, Any], save: str | None) -> list[str]:
    if str(info.get("aof_enabled", "1")) == "1":
        return []
    if save == "":
        return ["Redis keeps nothing across a restart: neither 'appendonly' nor 'save' is set."]
    return ["Redis loses what it wrote since its last snapshot when it is killed: 'appendonly' is not set."]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
