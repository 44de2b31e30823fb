"""Which Redis is refused, which is warned about, and whether the sentence says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from server.streams.durability import Durability
from server.streams.suitability import judge

GOOD: dict[str, Any] = {
    "redis_version": "7.4.1",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
}


def test_a_master_that_keeps_its_data_and_evicts_nothing_is_fine() -> None:
    assert judge(GOOD, save="") == judge({}, save=None)
    assert (judge(GOOD, save="").refusals, judge(GOOD, save="").warnings) == ((), ())


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"redis_version": "6.2.14"}, "needs Redis 7.0 or later"),
        ({"cluster_enabled": 1}, "Name it with redis+cluster:// in REPRISE_REDIS_URL"),
        ({"redis_mode": "sentinel"}, "redis+sentinel://host:26379/name-of-the-master"),
        ({"server_mode": "sentinel"}, "redis+sentinel://host:26379/name-of-the-master"),
        ({"role": "slave"}, "Point REPRISE_REDIS_URL at the master"),
        ({"maxmemory_policy": "volatile-lru"}, "CONFIG SET maxmemory-policy noeviction"),
        ({"maxmemory_policy": "allkeys-random"}, "'allkeys-random'"),
    ],
)
def test_a_redis_that_breaks_promises_is_refused_with_the_way_out(info: dict[str, Any], words: str) -> None:
    (sentence,) = judge({**GOOD, **info}, save="").refusals
    assert words in sentence


def test_a_node_of_a_cluster_is_fine_where_it_is_known_to_be_one() -> None:
    assert judge({**GOOD, "cluster_enabled": 1}, save="", in_cluster=True).refusals == ()


@pytest.mark.parametrize(
    ("save", "words"), [("", "keeps nothing"), ("3600 1", "since its last snapshot"), (None, "since its last snapshot")]
)
def test_a_redis_that_may_forget_is_warned_about(save: str | None, words: str) -> None:
    found = judge({**GOOD, "aof_enabled": 0}, save=save)
    assert (found.refusals, len(found.warnings)) == ((), 1)
    assert words in found.warnings[0]


SYNCED: dict[str, Any] = {**GOOD, "connected_slaves": 1, "redis_version": "7.2.4"}


@pytest.mark.parametrize("durability", Durability)
@pytest.mark.parametrize("appendfsync", ["everysec", "always", None])
def test_a_redis_that_can_keep_what_is_asked_for_is_fine(durability: Durability, appendfsync: str | None) -> None:
    for in_cluster in (False, True):
        found = judge(SYNCED, save="", durability=durability, appendfsync=appendfsync, in_cluster=in_cluster)
        assert found.refusals == ()


@pytest.mark.parametrize(
    ("durability", "info", "appendfsync", "words"),
    [
        (Durability.REPLICATED, {"connected_slaves": 0}, None, "no replica is connected"),
        (
            Durability.FSYNC,
            {"redis_version": "7.0.15"},
            "always",
            "needs Redis 7.2 or later, or Valkey; this is version",
        ),
        (Durability.FSYNC, {"aof_enabled": 0}, "always", "Set 'appendonly yes'"),
        (Durability.FSYNC, {}, "no", "Set 'appendfsync everysec' or 'always'"),
    ],
)
def test_more_durability_than_redis_can_give_is_refused_with_both_ways_out(
    durability: Durability, info: dict[str, Any], appendfsync: str | None, words: str
) -> None:
    found = judge({**SYNCED, **info}, save="3600 1", durability=durability, appendfsync=appendfsync)
    (sentence,) = found.refusals
    assert words in sentence
    assert f"REPRISE_DURABILITY is {durability.value!r}" in sentence
    assert "or set REPRISE_DURABILITY=fast" in sentence
