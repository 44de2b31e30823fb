"""The limit on open files: as high as this process may have it, and a sentence where that does not do.

Every connection is an open file. Where no more may be opened, uvloop closes whoever comes without an answer and tells
nobody, so what is accepted is looked at: a descriptor takes the lowest number that is free. Knows nothing of routes or
Redis.
"""

from __future__ import annotations

import logging
import resource
from contextlib import suppress
from typing import Final

_logger = logging.getLogger(__name__)

#: Beside streams: connections to Redis and to each node of a Cluster, short requests, listening sockets, the log.
RESERVE: Final = 100
#: With so few left, connections to Redis fail as well.
_FEW: Final = 4
_WAY_OUT: Final = (
    "Raise the limit (`ulimit -n` in a shell, LimitNOFILE= in a systemd unit, `ulimits: nofile` in Compose), "
    "or lower REPRISE_MAX_CONNECTIONS."
)


def raise_limit(wanted: int) -> int:
    """Allow this process what it may be allowed, and return how many files that is.

    `wanted` is asked for where the system names no end but has one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, wanted):
        if soft != resource.RLIM_INFINITY and (most == resource.RLIM_INFINITY or most > soft):
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
                break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class OpenFiles:
    """How many files may be open, and whether somebody was told that they run out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._is_endless = limit == resource.RLIM_INFINITY
        self._is_told = False

    def warn_if_too_few(self, streams: int) -> None:
        """Say so where so many streams do not fit."""
        if not self._is_endless and self._limit < streams + RESERVE:
            _logger.warning(
                "This process may open %d files, too few for %d streams (REPRISE_MAX_CONNECTIONS) and %d other files: "
                "who comes when they are used up is not answered. %s",
                self._limit,
                streams,
                RESERVE,
                _WAY_OUT,
            )

    def opened(self, descriptor: int) -> None:
        """Note the descriptor of a connection that was accepted; the first of the last ones is told."""
        if not self._is_told and not self._is_endless and descriptor >= self._limit - _FEW:
            self._is_told = True
            _logger.error(
                "All %d files that this process may open are used up: who comes now is not answered, not even about "
                "its health, and Redis cannot be connected to. %s",
                self._limit,
                _WAY_OUT,
            )
