"""What a task's record says of whoever should be at work on it: a writer with a lease, or nobody for a while. Pure.

Owns which fields are asked for and what they mean together; judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from server.streams.records import Status

#: What `Sign.decode` takes, in its order.
SIGN_FIELDS: Final = ("status", "lease_until", "last_error", "updated_at", "not_before")


@dataclass(frozen=True, slots=True)
class Pause:
    """Between an attempt that failed and the next one; times in ms since epoch."""

    since_ms: int
    #: How the attempt failed.
    error: str
    not_before_ms: int


@dataclass(frozen=True, slots=True)
class Sign:
    """One task's sign of life."""

    status: Status
    lease_until_ms: int
    #: Of the lease, by Redis' clock; 0 or less if it has run out.
    left_ms: int
    #: Of a task that waits to be tried again.
    pause: Pause | None = None

    @classmethod
    def decode(cls, values: Sequence[bytes | None], *, now_ms: int) -> Sign | None:
        """From the fields of a record; None if there is no record."""
        status, lease_until, error, updated_at, not_before = values
        if status is None:
            return None
        found, until = Status(status.decode()), int(lease_until or 0)
        pause = None
        if found is Status.PENDING and error is not None:
            pause = Pause(int(updated_at or 0), error.decode(errors="replace"), int(not_before or 0))
        return cls(found, until, until - now_ms, pause)
