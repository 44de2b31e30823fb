"""What is said of the time in which Redis takes no writes: when it begins, for which reasons, and how long it took.

Invariant: one line at its beginning, one for each further reason, one at its end, however many requests meet it. A
failover has several reasons in turn: no answer, then a master that misses its replicas. Pure: times are handed in.
"""

from __future__ import annotations

import logging

from server.streams.errors import LogUnavailable

_log = logging.getLogger(__name__)


class Outage:
    """Told by whoever asks again and again."""

    def __init__(self) -> None:
        self._since: float | None = None
        #: Redis' words for why, as far as they were said; empty for silence.
        self._said: set[str] = set()

    def met(self, error: LogUnavailable, *, now: float) -> None:
        """Redis did not answer, or refused to write."""
        is_first = self._since is None
        if self._since is None:
            self._since = now
        if error.code in self._said:
            return
        self._said.add(error.code)
        what = f"Redis takes no writes ({error.code})" if error.code else "Redis is out of reach"
        if is_first:
            _log.warning("%s: %s", what, error)
        else:
            _log.warning("%s, %.1f s after the outage began: %s", what, now - self._since, error)

    def over(self, *, now: float) -> None:
        """Redis took a write, or would have."""
        if self._since is not None:
            _log.info("Redis takes writes again; the outage took %.1f s", now - self._since)
        self._since = None
        self._said.clear()
