"""Whom to believe where sentinels do not agree on who is the master, and nodes not on who has which slots."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import RedisError

from server.streams.topology.address import Host
from server.streams.topology.belief import Map, Named, choose_map, is_enough, newest, read_map, read_master

OLD, NEW = Named(1, Host("old", 6379)), Named(2, Host("new", 6379))
A, B = Host("10.0.0.1", 7000), Host("10.0.0.2", 7001)
OLD_MAP, NEW_MAP = Map(is_well=True, epoch=6, ranges=((0, 99, A),)), Map(is_well=True, epoch=7, ranges=((0, 99, B),))


@pytest.mark.parametrize("known", [None, OLD, NEW])
def test_the_last_failover_counts_whoever_knows_of_it(known: Named | None):
    assert newest([OLD, NEW, OLD], of=3, known=known) == NEW


def test_those_who_have_not_heard_of_a_failover_lead_nobody_back_while_one_is_silent():
    assert newest([OLD, OLD], of=3, known=NEW) == NEW


def test_sentinels_that_were_set_up_anew_begin_to_count_again():
    assert newest([OLD, OLD, OLD], of=3, known=NEW) == OLD


def test_the_rest_is_waited_for_until_a_majority_answered_and_one_knows_what_was_known():
    assert not is_enough([NEW], of=3, known=None)
    assert is_enough([OLD, OLD], of=3, known=None)
    assert is_enough([OLD, NEW], of=3, known=NEW)
    assert not is_enough([OLD, OLD], of=3, known=NEW)


@pytest.mark.parametrize("known", [None, OLD_MAP, NEW_MAP])
def test_the_map_of_the_newest_epoch_counts_whoever_has_it(known: Map | None):
    assert choose_map([OLD_MAP, NEW_MAP, OLD_MAP], of=3, known=known) == NEW_MAP


def test_a_node_that_finds_all_well_does_not_outweigh_a_newer_one():
    ill = Map(is_well=False, epoch=7, ranges=NEW_MAP.ranges)
    assert choose_map([OLD_MAP, ill], of=3, known=None) == ill


def test_nodes_that_are_behind_lead_nobody_back_while_one_is_silent():
    assert choose_map([OLD_MAP, OLD_MAP], of=3, known=NEW_MAP) is NEW_MAP


def test_a_cluster_that_was_set_up_anew_begins_to_count_again():
    assert choose_map([OLD_MAP, OLD_MAP, OLD_MAP], of=3, known=NEW_MAP) is OLD_MAP


def test_of_the_same_epoch_the_map_that_is_well_counts_and_then_the_one_that_most_have():
    voted = Map(is_well=True, epoch=7, ranges=OLD_MAP.ranges)
    ill = Map(is_well=False, epoch=7, ranges=OLD_MAP.ranges)
    assert choose_map([voted, NEW_MAP, NEW_MAP], of=3, known=None) == NEW_MAP
    assert choose_map([voted, voted, NEW_MAP], of=3, known=None) == voted
    assert choose_map([ill, ill, NEW_MAP], of=3, known=None) == NEW_MAP


ABOUT_NEW = [b"ip", b"old", b"port", b"6379", b"config-epoch", b"2"]


@pytest.mark.parametrize("about", [ABOUT_NEW, {"ip": "old", "port": "6379", "config-epoch": "2"}])
def test_the_master_is_the_one_that_is_handed_out_not_the_one_that_is_watched_until_the_failover_is_over(about: Any):
    assert read_master(about, [b"new", b"6379"]) == NEW


NO_MASTERS: list[tuple[Any, Any]] = [
    (RedisError("ERR No such master with that name"), None),
    (ABOUT_NEW, RedisError("ERR")),
    (None, None),
    (b"+OK", [b"new", b"6379"]),
    (ABOUT_NEW, None),
    (ABOUT_NEW, [b"new"]),
    (ABOUT_NEW, [b"new", b"?"]),
    ([b"ip", b"new", b"port"], [b"new", b"6379"]),
    ([b"config-epoch", b"?"], [b"new", b"6379"]),
]


@pytest.mark.parametrize(("about", "address"), NO_MASTERS)
def test_what_names_no_master_is_refused_with_an_error_of_redis(about: Any, address: Any):
    with pytest.raises(RedisError):
        read_master(about, address)


SLOTS_OF_A = [[0, 99, [b"10.0.0.1", 7000, b"id"]]]


def test_a_map_is_dated_by_the_epoch_that_its_node_tells():
    info = b"cluster_state:fail\r\ncluster_current_epoch:7\r\n"
    assert read_map(info, SLOTS_OF_A, asked=A) == Map(is_well=False, epoch=7, ranges=((0, 99, A),))


NO_MAPS: list[tuple[Any, Any]] = [
    (RedisError("LOADING"), SLOTS_OF_A),
    (b"cluster_state:ok", SLOTS_OF_A),
    (b"cluster_state:ok\r\ncluster_current_epoch:?", SLOTS_OF_A),
    (b"cluster_state:ok\r\ncluster_current_epoch:7", []),
    (b"cluster_state:ok\r\ncluster_current_epoch:7", None),
]


@pytest.mark.parametrize(("info", "slots"), NO_MAPS)
def test_what_is_no_map_of_slots_is_refused_with_an_error_of_redis(info: Any, slots: Any):
    with pytest.raises(RedisError):
        read_map(info, slots, asked=A)
