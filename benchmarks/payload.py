"""What every benchmark event says: its number in its stream, when it was written, and filling.

The one place that knows the format; tasks and publishers write it, the transcript reads it. `n` counts without holes
from a stream's first event, so order, loss and doubling are arithmetic. `at` is the machine-wide monotonic clock in
nanoseconds, the same for every process of this machine.
"""

from __future__ import annotations

import re
from typing import Final

#: Data of an event, in bytes, as in the scenarios' table: a sentence, or a few tokens with their frame.
EVENT_BYTES: Final = 160
#: `{"n":123,"at":12345678901234,"text":""}` without filling.
_OVERHEAD: Final = 40

_NUMBERED: Final = re.compile(rb'(?:^|\n)data: ?\{"n":(\d+),"at":(\d+),')


def filling(event_bytes: int = EVENT_BYTES) -> str:
    """The text that makes an event about `event_bytes` long."""
    return "x" * max(1, event_bytes - _OVERHEAD)


def members(number: int, stamp_ns: int, text: str) -> dict[str, object]:
    """The event as a task emits it; Reprise makes compact JSON of it."""
    return {"n": number, "at": stamp_ns, "text": text}


def encoded(number: int, stamp_ns: int, text: str) -> bytes:
    """The same bytes as `members` gives after encoding, for publishers that send text."""
    return b'{"n":%d,"at":%d,"text":"%s"}' % (number, stamp_ns, text.encode())


def read_block(block: bytes) -> tuple[int, int] | None:
    """Number and stamp of an event-stream block; None if it is not one of ours."""
    found = _NUMBERED.search(block)
    return (int(found[1]), int(found[2])) if found else None
