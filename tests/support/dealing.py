"""The order of tests for parallel processes: those that mostly wait beside those that mostly compute. Pure.

Tests of real processes wait most of their time, the others compute; one kind after the other leaves processors idle for
minutes. pytest-xdist's `worksteal` gives each process an equal run of consecutive tests, and who is done takes from the
end of another's run. So each run gets its share of the waiting ones, evenly spread over its beginning: at the end are
only short ones, and nobody waits for a long one that began last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

#: Of a run: behind it nothing waits for long.
_BEGINNING: Final = 0.6


def dealt(groups: Sequence[Sequence[T]], others: Sequence[T], *, hands: int) -> list[T]:
    """All of them as `hands` runs of equal length, one behind the other. A group is kept together."""
    shares: list[list[Sequence[T]]] = [[] for _ in range(hands)]
    for group in sorted(groups, key=len, reverse=True):
        min(shares, key=lambda share: sum(len(each) for each in share)).append(group)
    found: list[T] = []
    left = sum(len(group) for group in groups) + len(others)
    taken = 0
    for number, share in enumerate(shares):
        length = left // (hands - number)
        count = max(0, length - sum(len(group) for group in share))
        run = _spread(share, others[taken : taken + count])
        taken += count
        left -= len(run)
        found += run
    return found


def _spread(groups: Sequence[Sequence[T]], others: Sequence[T]) -> list[T]:
    """The groups at equal distances within the beginning of the others."""
    step = len(others) * _BEGINNING / max(1, len(groups))
    found: list[T] = []
    begin = 0
    for number, group in enumerate(groups):
        end = round(number * step)
        found += [*others[begin:end], *group]
        begin = end
    return [*found, *others[begin:]]
