"""How long keys live, and how large logs grow; docs/keys.md has the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: While a log grows by its budget of bytes it is measured so often: that walks the log's nodes, a millisecond or three
#: for ten thousand large entries.
CHECKS_PER_BUDGET: Final = 16
#: Redis counts in whole milliseconds, and from the beginning of its turn: a key may expire so much before its time.
_SLACK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Expiry:
    """From when on the keys of an ended task may have expired, by the clock of whoever asked for the end."""

    log_at: float
    record_at: float


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long keys live, ms. All are refreshed while a stream is written or its task is leased."""

    #: A log while it may still be written.
    live_ms: int = 7 * 86_400_000
    #: A log after its end, and a shared log after its last event.
    retention_ms: int = 86_400_000
    #: A task's record after its end, and so its result: it answers for the log when that is gone.
    record_ms: int = 2 * 86_400_000
    #: The record of a dead letter: a person has to find the time to look at it.
    dead_ms: int = 30 * 86_400_000

    @classmethod
    def lasting(cls, *, retention_seconds: float, result_seconds: float, dead_letter_seconds: float) -> Lifetimes:
        """Those that follow from the settings: a record is needed longer than its log, and a dead letter is one."""
        retention_ms = int(retention_seconds * 1000)
        record_ms = max(int(result_seconds * 1000), 2 * retention_ms)
        dead_ms = max(int(dead_letter_seconds * 1000), record_ms)
        return cls(max(cls().live_ms, retention_ms), retention_ms, record_ms, dead_ms)

    def after_end(self, *, is_dead: bool) -> tuple[int, int]:
        """How long log and record of a task live after its end, ms."""
        return self.retention_ms, self.dead_ms if is_dead else self.record_ms

    def expiry(self, *, asked_at: float, is_dead: bool) -> Expiry:
        """What follows for a task whose end was first asked for at `asked_at`: Redis may have taken it no earlier."""
        log_ms, record_ms = self.after_end(is_dead=is_dead)
        since = asked_at - _SLACK_SECONDS
        return Expiry(since + log_ms / 1000, since + record_ms / 1000)
