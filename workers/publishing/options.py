"""What a stream is opened with. Invariant: options that exist can be used; what is wrong is refused at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from server.streams.durability import Durability
from server.streams.errors import InvalidInput
from server.streams.keys import Keys
from server.streams.names import is_reserved, parse_stream_name
from server.streams.topology.address import check_url

#: As `REPRISE_DURABILITY`.
DurabilityName: TypeAlias = Literal["fast", "replicated", "fsync"]

#: Those of the settings of the same names; patience, because each handle leaves a key in Redis for as long.
_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "retention_seconds": (1, 366 * 86_400),
    "max_events": (0, 10_000_000),
    "max_stream_bytes": (0, 2**40),
    "max_event_bytes": (1, 16 * 2**20),
    "patience_seconds": (0.01, 86_400),
}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Where a stream is and how it is written. Raises `InvalidInput`."""

    redis_url: str
    name: str
    prefix: str
    retention_seconds: float
    max_events: int
    max_stream_bytes: int
    max_event_bytes: int
    patience_seconds: float
    durability: DurabilityName

    def __post_init__(self) -> None:
        check_url(self.redis_url, what="The address of Redis")
        Keys(self.prefix)
        if is_reserved(parse_stream_name(self.name)):
            raise InvalidInput(
                f"The stream {self.name!r} is Reprise's own: only it writes `system`, `tasks` and `tasks.…`. "
                "Choose another name."
            )
        for name, (least, most) in _BOUNDS.items():
            value: float = getattr(self, name)
            if not least <= value <= most:
                raise InvalidInput(f"{name} is {value!r}. Use a number from {least} to {most}.")
        try:
            Durability(self.durability)
        except ValueError:
            known = ", ".join(repr(each.value) for each in Durability)
            raise InvalidInput(f"durability is {self.durability!r}. Use one of {known}.") from None
