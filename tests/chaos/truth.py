"""What each task of a run is told to do, and so what its readers must see. The ground truth, known to both sides.

Invariant: everything follows from the script, so that whoever has it can check each event without having seen another.
Imports nothing of the product: the task functions use it as well as the checker.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal
from zlib import crc32

#: How a task ends if nothing befalls it.
End = Literal["complete", "error", "cancelled"]

#: Type of the events that are numbered.
NUMBER = "number"
#: In every failure that a script asks for.
AS_TOLD = "as told"


@dataclass(frozen=True, slots=True)
class Script:
    """What one task does. It is the task's input, member for member."""

    #: Unique in all runs: goes into every checksum, so that an event of another task is never taken for one of this.
    key: str
    #: How many numbered events, from 0 on.
    events: int
    pause_ms: int
    #: A checkpoint behind every so many numbers; 0 for none.
    checkpoint_every: int
    #: In attempt i raise before the number `fail_at[i - 1]`.
    fail_at: tuple[int, ...]
    ends: End
    #: Bytes of ballast in each event.
    ballast: int

    @property
    def input(self) -> dict[str, Any]:
        return asdict(self)

    def payload(self, number: int) -> dict[str, Any]:
        """Data of a numbered event, but for who wrote it."""
        return payload(self.key, number, self.ballast)

    def checkpoint_follows(self, number: int) -> bool:
        """Whether a checkpoint comes right behind this number."""
        return self.checkpoint_every > 0 and number % self.checkpoint_every == self.checkpoint_every - 1


def payload(key: str, number: int, ballast: int) -> dict[str, Any]:
    mark = f"{crc32(f'{key}:{number}'.encode()):08x}"
    return {"n": number, "sum": mark, "ballast": (mark * (ballast // len(mark) + 1))[:ballast]}


def result(key: str, events: int) -> dict[str, Any]:
    """What a task returns that has come to its end."""
    return {"events": events, "sum": f"{crc32(f'{key}:end'.encode()):08x}"}
