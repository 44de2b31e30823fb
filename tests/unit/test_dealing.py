"""The order in which parallel processes run the tests loses none and leaves none that waits for the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.dealing import dealt


@given(st.lists(st.integers(1, 5), max_size=30), st.integers(0, 200), st.integers(1, 8))
def test_every_test_is_dealt_once_and_groups_stay_together(sizes: list[int], others: int, hands: int) -> None:
    groups = [[f"{group}.{number}" for number in range(size)] for group, size in enumerate(sizes)]
    found = dealt(groups, [f"o{number}" for number in range(others)], hands=hands)
    assert sorted(found) == sorted([*(each for group in groups for each in group), *(f"o{n}" for n in range(others))])
    for group in groups:
        begin = found.index(group[0])
        assert found[begin : begin + len(group)] == group


def test_each_run_has_its_share_of_those_that_wait_and_none_at_its_end() -> None:
    found = dealt([[f"w{number}"] for number in range(12)], [f"o{number}" for number in range(288)], hands=3)
    runs = [found[begin : begin + 100] for begin in (0, 100, 200)]
    for run in runs:
        places = [place for place, each in enumerate(run) if each.startswith("w")]
        assert len(places) == 4
        assert places[0] == 0
        assert max(places) < 60
