"""Moments as requests write them: ISO 8601 with an offset from UTC, and all of RFC 3339. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
#: A leap second: clocks that know of none show the next second meanwhile.
_LEAP: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}.[0-9]{2}:[0-9]{2}:)60")


def moment_ms(text: str) -> int | None:
    """The moment in ms since epoch; None for anything that does not say which moment it is. Before 1970 is 0."""
    usual, leaps = _LEAP.subn(r"\g<1>59", text, count=1)
    try:
        # In RFC 3339 `T` and `Z` may be small letters.
        moment = datetime.fromisoformat(usual.upper())
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0, round(((moment - _EPOCH).total_seconds() + leaps) * 1000))
