"""Whom to believe where sentinels do not agree on who is the master."""

from __future__ import annotations

import pytest

from server.streams.topology.address import Host
from server.streams.topology.sentinel import Named, newest, read_answer

OLD, NEW = Named(1, Host("old", 6379)), Named(2, Host("new", 6379))


@pytest.mark.parametrize("known", [None, OLD, NEW])
def test_the_last_failover_counts_whoever_knows_of_it(known: Named | None):
    assert newest([OLD, NEW, OLD], of=3, known=known) == NEW


def test_those_who_have_not_heard_of_a_failover_lead_nobody_back_while_one_is_silent():
    assert newest([OLD, OLD], of=3, known=NEW) == NEW


def test_sentinels_that_were_set_up_anew_begin_to_count_again():
    assert newest([OLD, OLD, OLD], of=3, known=NEW) == OLD


def test_the_master_is_the_one_that_is_handed_out_not_the_one_that_is_watched_until_the_failover_is_over():
    about = [b"name", b"m", b"ip", b"old", b"port", b"6379", b"config-epoch", b"2"]
    assert read_answer(about, [b"new", b"6379"]) == NEW
