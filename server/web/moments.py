"""Moments as requests write them: ISO 8601 with an offset from UTC, which RFC 3339 is part of. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def moment_ms(text: str) -> int | None:
    """The moment in ms since epoch; None for anything that does not say which moment it is. Before 1970 is 0."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else max(0, round((moment - _EPOCH).total_seconds() * 1000))
