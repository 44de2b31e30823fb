"""Whether requests should come to this process: Redis answers, the tail hears of new events, nobody told it to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from server.streams.errors import LogUnavailable
from server.streams.refusing import NO_TLS, SILENT, plainly

#: Below the patience of a balancer's health check.
_ANSWER_SECONDS: Final = 1.0
#: With a full disk Redis refuses even a PING, and still gives readers what it has.
_WRITES_ONLY: Final = "MISCONF"


class Readiness:
    """Why this server should get no requests, if there is a reason."""

    def __init__(self, *, ping: Callable[[], Awaitable[object]], is_live: Callable[[], bool], has_tls: bool) -> None:
        """`ping` asks Redis for an answer and raises `LogUnavailable`; `is_live` speaks for the tail.

        `has_tls`: whether we speak TLS to Redis.
        """
        self._ping = ping
        self._is_live = is_live
        self.has_tls = has_tls
        #: Set when the process is told to stop; never unset.
        self.is_draining = False
        #: Why this Redis cannot be used, for whoever may ask; None while that is not known. Set by the checks at start,
        #: again and again.
        self.unsuitable: list[str] | None = None

    async def reasons(self) -> list[str]:
        """Every reason, as sentences; empty when ready."""
        found = ["The server is about to stop."] if self.is_draining else []
        if away := await self._why_away():
            return [*found, away]
        if not self._is_live():
            found.append("The connection that tells of new events is down.")
        if self.unsuitable is None:
            found.append("Redis has not been checked yet.")
        return found + (self.unsuitable or [])

    async def _why_away(self) -> str:
        """Empty if Redis answers. Anybody may ask for readiness, so nothing is told that only the log may know."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._ping()
        except LogUnavailable as error:
            return "" if error.code == _WRITES_ONLY else self._with_reason(plainly(error))
        except TimeoutError:
            return self._with_reason(SILENT)
        return ""

    def _with_reason(self, said: str) -> str:
        """With what may be the reason of a silence; not if Redis has answered before."""
        return f"{said} {NO_TLS}" if said == SILENT and self.has_tls and self.unsuitable is None else said
