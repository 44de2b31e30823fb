"""For how long this process has been in touch with Redis without a break.

Whoever judges an expired lease must have been there for one lease (docs/protocol.md, "Claims, leases, ends"). A
standing connection does not prove it: a frozen Redis, or a frozen worker, breaks none. So it is counted from replies.
Nor do replies to reads: while Redis takes no writes (memory or disk full, a master that was demoted) no lease can be
renewed, and all run out although their owners live. So what is asked has a write in it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

#: Never a task's id, so that nothing is changed.
_NOBODY: Final = "-"


def write_probe(unfinished_index: str) -> tuple[str, ...]:
    """A command that changes nothing, and is refused whenever a write is that needs memory: XX adds no member."""
    return ("ZADD", unfinished_index, "XX", "0", _NOBODY)


class Contact:
    """Counts from the first reply after the last silence longer than `max_silence_seconds`."""

    def __init__(self, *, max_silence_seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._max_silence_seconds = max_silence_seconds
        self._clock = clock
        self._since: float | None = None
        self._heard_at = 0.0

    @property
    def seconds(self) -> float:
        """0 while there is none."""
        now = self._clock()
        if self._since is None or now - self._heard_at > self._max_silence_seconds:
            return 0.0
        return now - self._since

    def heard(self) -> None:
        """Note a reply."""
        now = self._clock()
        if self._since is None or now - self._heard_at > self._max_silence_seconds:
            self._since = now
        self._heard_at = now

    def lost(self) -> None:
        """Note that Redis did not answer."""
        self._since = None
