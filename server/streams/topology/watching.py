"""A look that is taken again and again, in the background and for as long as the process lives.

Invariant: no answer ends it. It alone finds out that a master which answers was replaced, and nobody would miss it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from server.streams.jitter import jitter

_log = logging.getLogger(__name__)


async def keep_looking(look: Callable[[], Awaitable[object]], *, every_seconds: float, at: str) -> None:
    """Take the look until cancelled; `at` says at what, for the log."""
    while True:
        await asyncio.sleep(every_seconds * jitter.uniform(0.7, 1.3))
        try:
            await look()
        except (RedisError, OSError):
            pass  # no news: connections stay as they are
        except Exception:  # noqa: BLE001 (boundary: one supervised step)
            _log.exception("Looking at %s failed; looking again", at)
