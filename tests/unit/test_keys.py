"""Keys: one table for people, one class for the code, and both say the same."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.streams.errors import InvalidInput
from server.streams.keys import Keys
from tests.support.key_table import rows

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
_ROOT = Path(__file__).parents[2]
_METHODS = {
    "log": ("s",),
    "bell": ("s",),
    "idempotency": ("s", "t"),
    "record": ("i",),
    "control": ("i",),
    "ready": ("q", "t"),
    "delayed": ("q",),
    "unique": ("t", "k"),
    "about": ("s",),
}


def every_key(keys: Keys) -> dict[str, str]:
    """One key of each kind, by the member that builds it."""
    plain = {name: value for name, value in vars(keys).items() if name != "prefix"}
    return plain | {name: getattr(keys, name)(*arguments) for name, arguments in _METHODS.items()}


def test_every_member_of_keys_is_known_to_this_test():
    members = {name for name, _ in inspect.getmembers(Keys, inspect.isfunction) if not name.startswith("_")}
    assert members == set(_METHODS)


def test_every_kind_of_key_has_exactly_one_line_in_the_document_and_every_line_a_kind():
    def lines(name: str) -> list[str]:
        # A task's own lines are more exact than those of any stream, which they match as well.
        found = [row.key for row in rows() if row.matches(name)]
        return [key for key in found if "tasks." in key] or found

    assert {member: len(lines(name)) for member, name in every_key(Keys()).items() if len(lines(name)) != 1} == {}
    assert {row.key for row in rows()} == {lines(name)[0] for name in every_key(Keys()).values()}


def test_every_owner_in_the_document_is_a_module():
    owners = {owner for row in rows() for owner in re.findall(r"`(server[a-z._]*)`", row.owner)}
    assert owners
    assert [owner for owner in owners if not (_ROOT / f"{owner.replace('.', '/')}.py").exists()] == []


@given(names, names)
def test_keys_of_one_stream_share_its_slot_and_streams_have_keys_of_their_own(one: str, other: str):
    keys = Keys()
    tag = re.compile(r"\{([^}]*)\}")
    for name in (keys.log(one), keys.bell(one), keys.idempotency(one, other)):
        found = tag.search(name)
        assert found
        assert found[1] == one
    assert keys.record(one).split("}")[0] == keys.log(f"tasks.{one}").split("}")[0] == keys.control(one).split("}")[0]
    assert (keys.log(one) == keys.log(other)) == (one == other)


def test_a_unique_key_may_be_any_text_and_no_two_pairs_share_a_holder():
    pairs = [("t", "k"), ("t", "k}:{"), ("t", ""), ("tk", ""), ("u", "k"), ("t", "k\0")]
    assert len({Keys().unique(*pair) for pair in pairs}) == len(pairs)
    assert all(Keys().unique(*pair).count("{") == 1 for pair in pairs)


@pytest.mark.parametrize("prefix", ["a{", "a}", "{a}:"])
def test_a_prefix_with_a_brace_is_refused_because_it_breaks_every_hash_tag(prefix: str):
    with pytest.raises(InvalidInput, match="brace"):
        Keys(prefix)


def test_every_key_begins_with_the_prefix():
    assert [name for name in every_key(Keys("x:")).values() if not name.startswith("x:")] == []
