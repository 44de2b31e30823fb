"""What a stream keeps, where whoever made it has a say: settings of its own, given once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Keep = Literal["all", "latest"]

KEEPS: Final[tuple[Keep, ...]] = ("all", "latest")
#: A log is bounded in bytes too, so a larger number would promise what nobody gets.
MOST_EVENTS: Final = 1_000_000
#: As far as a task may be put off.
LONGEST_TTL_SECONDS: Final = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Retention:
    """Of one stream; where it says nothing, the settings of the installation hold."""

    #: How many events are kept, exactly.
    max_events: int | None = None
    #: How long they are kept after the newest.
    ttl_ms: int | None = None
    #: `latest`: only the newest event is, and behind it the end of the stream.
    keep: Keep = "all"
