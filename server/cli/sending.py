"""Sending one request until it is answered: what was lost on the way is sent again, under the same key.

Invariant: every try of a request has the same `Idempotency-Key` and the same body, so that a server which did what it
was asked and could not say so does not do it twice. Knows nothing of what is sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from server.cli.server import NOBODY, PASSING, Unreachable, why_lost, why_not

_LONGEST_WAIT_SECONDS: Final = 5.0
#: Of these it is certain that nothing has left this machine.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Unanswered(Exception):
    """Nobody's: within its patience no server has said what became of the request. Its text says why."""


class Sender:
    """Sends one request after another. Not for several threads."""

    def __init__(self, http: httpx.Client, *, patience_seconds: float, waiting: Callable[[str], None]) -> None:
        """`waiting` is told why a request is sent again, before the pause."""
        self._http = http
        self._patience_seconds = patience_seconds
        self._waiting = waiting
        #: Set by the first answer: from then on a server that cannot be reached is one that starts again.
        self._is_known = False
        #: Whether a server may have read the newest request, answered or not.
        self.is_in_doubt = False

    def post(self, url: str, **request: Any) -> httpx.Response:
        """The answer, below 500. `request` is as httpx has it, with a key among its headers.

        Raises `Unreachable` if there is no server at the very first try, and `Unanswered`.
        """
        self.is_in_doubt = False
        deadline = time.monotonic() + self._patience_seconds
        failures = 0
        while True:
            delay = min(_LONGEST_WAIT_SECONDS, 0.2 * 2 ** min(failures, 10))
            was_in_doubt, self.is_in_doubt = self.is_in_doubt, True
            try:
                response = self._http.post(url, **request)
            except httpx.UnsupportedProtocol:
                raise  # a transport error by descent only: it says that the address is none
            except httpx.TransportError as error:
                if isinstance(error, _NOT_SENT):
                    self.is_in_doubt = was_in_doubt
                if isinstance(error, httpx.ConnectError) and not self._is_known and not failures:
                    raise Unreachable(NOBODY.format(self._http.base_url)) from None
                reason = why_lost(error, self._http)
            else:
                self._is_known = True
                if response.status_code < 500 and response.status_code not in PASSING:
                    return response
                if _is_refused_by_redis(response):
                    self.is_in_doubt = was_in_doubt
                reason = why_not(response)
                delay = _retry_after(response, delay)
            delay *= random.uniform(0.75, 1.25)
            if time.monotonic() + delay > deadline:
                raise Unanswered(reason)
            failures += 1
            self._waiting(reason)
            time.sleep(delay)


def _is_refused_by_redis(response: httpx.Response) -> bool:
    """Whether the server knows that nothing has come of this try."""
    try:
        return response.json()["code"] == "not_stored"
    except (ValueError, KeyError, TypeError):
        return False


def _retry_after(response: httpx.Response, usual: float) -> float:
    """Seconds: as the server asks, but not for so long that a person wonders whether anything happens."""
    text = response.headers.get("retry-after", "")
    return min(_LONGEST_WAIT_SECONDS, float(text)) if text.isascii() and text.isdigit() else usual
