"""What a stream is opened with. Invariant: options that exist can be used; what is wrong is refused at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.streams.connections import check_url
from server.streams.errors import InvalidInput
from server.streams.keys import Keys
from server.streams.names import is_reserved, parse_stream_name

#: Nobody waits longer for Redis; each handle leaves a key there for as long.
_MOST_PATIENCE_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Where a stream is and how it is written. Raises `InvalidInput`."""

    redis_url: str
    name: str
    prefix: str
    retention_seconds: float
    max_events: int
    max_event_bytes: int
    patience_seconds: float

    def __post_init__(self) -> None:
        check_url(self.redis_url, what="The address of Redis")
        Keys(self.prefix)
        if is_reserved(parse_stream_name(self.name)):
            raise InvalidInput(
                f"The stream {self.name!r} is Reprise's own: only it writes `system`, `tasks` and `tasks.…`. "
                "Choose another name."
            )
        if not 0 < self.patience_seconds <= _MOST_PATIENCE_SECONDS:
            raise InvalidInput(
                f"patience_seconds is {self.patience_seconds!r}. Use more than 0 and up to {_MOST_PATIENCE_SECONDS}."
            )
        if self.retention_seconds < 1 or self.max_events < 0 or self.max_event_bytes < 1:
            raise InvalidInput(
                f"retention_seconds is {self.retention_seconds!r}, max_events {self.max_events!r} and max_event_bytes "
                f"{self.max_event_bytes!r}. Use at least 1, 0 (for no limit) and 1."
            )
