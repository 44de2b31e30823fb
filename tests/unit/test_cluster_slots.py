"""Which node of a Cluster has a key: what commands name, what nodes tell, and where a refusal sends us."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import AskError, MovedError, RedisError

from server.streams.topology.address import Host
from server.streams.topology.slots import SLOTS, SlotMap, key_of, read_slots, redirected_to, redirection, slot_of

A, B = Host("10.0.0.1", 7000), Host("10.0.0.2", 7001)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "k"), "k"),
        ((b"XRANGE", b"k", b"-"), b"k"),
        (("EVALSHA", "abc", 2, "k", "l", "x"), "k"),
        (("EVAL", "return 1", 0), None),
        (("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "BLOCK", 500, "STREAMS", "k", "l", ">", ">"), "k"),
        (("XGROUP", "CREATE", "k", "g", "0", "MKSTREAM"), "k"),
        (("XCLAIM", "k", "g", "c", 0, "1-1"), "k"),
        (("PUBSUB", "SHARDNUMSUB", "k"), "k"),
        (("SPUBLISH", "k", "x"), "k"),
        (("PING",), None),
        (("TIME",), None),
        (("CONFIG", "GET", "save"), None),
    ],
)
def test_a_command_goes_by_the_first_key_that_it_names(command: tuple[Any, ...], key: str | bytes | None):
    assert key_of(command) == key


def test_keys_with_one_tag_share_a_slot_and_it_is_the_one_that_redis_counts():
    assert slot_of("123456789") == slot_of(b"123456789") == 0x31C3
    assert slot_of("reprise:{tasks.a}:log") == slot_of("reprise:{tasks.a}:task") == slot_of("tasks.a")


@pytest.mark.parametrize(
    ("refusal", "slot", "host", "asks"),
    [("MOVED 3999 10.0.0.1:7000", 3999, A, False), ("ASK 1 ::1:7001", 1, Host("::1", 7001), True)],
)
def test_a_redirection_says_where_to_ask(refusal: str, slot: int, host: Host, asks: bool):
    found = redirection(refusal)
    assert found
    assert (found.slot, found.host, found.asks) == (slot, host, asks)


@pytest.mark.parametrize("refusal", ["TRYAGAIN later", "MOVED x 10.0.0.1:7000", "MOVED 1 :7000", "ERR MOVED 1 a:1", ""])
def test_other_refusals_send_nobody_elsewhere(refusal: str):
    assert redirection(refusal) is None


def test_a_node_that_leaves_its_name_out_is_the_one_that_was_asked():
    assert redirected_to(MovedError("1 :7001"), asked=A) == Host("10.0.0.1", 7001)
    assert redirected_to(AskError("1 10.0.0.2:7001"), asked=A) == B
    assert read_slots([[0, SLOTS - 1, [b"", 7000, b"id"]]], asked=A) == ((0, SLOTS - 1, A),)


def test_the_map_is_what_a_node_told_and_what_others_corrected():
    slots = SlotMap()
    assert (slots.owner(5), slots.masters) == (None, frozenset())
    slots.replace(read_slots([[0, 99, [b"10.0.0.1", 7000, b"id"], [b"10.0.0.9", 1, b"replica"]]], asked=A))
    assert (slots.owner(99), slots.owner(100), slots.masters) == (A, None, {A})
    version = slots.version
    slots.move(5, A)
    assert slots.version == version
    slots.move(5, B)
    assert (slots.owner(5), slots.masters, slots.version) == (B, {A, B}, version + 1)
    slots.replace(((0, 99, A),))
    assert (slots.owner(5), slots.version) == (A, version + 2)


NO_MAPS: list[Any] = [RedisError("ERR no cluster"), None, [[1]], [[0, 1, []]]]


@pytest.mark.parametrize("reply", NO_MAPS)
def test_what_is_no_map_is_refused_with_an_error_of_redis(reply: Any):
    with pytest.raises(RedisError):
        read_slots(reply, asked=A)
