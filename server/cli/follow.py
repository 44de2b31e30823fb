"""Reading one event stream to its end, over as many connections as it takes.

Invariant: every connection asks for what comes after the last event that was handed out, so that the caller sees
each event once. Only a terminal event, or an answer that says there is no more, is the end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from server.cli.decoding import Decoder, Received
from server.streams.settings import CannotStart

TERMINAL: Final = frozenset({"complete", "error", "cancelled"})
#: What a browser waits unless told otherwise.
_RETRY_MS: Final = 2000
#: A person who waits at a terminal should not have to wonder whether it still tries.
_LONGEST_WAIT_SECONDS: Final = 30.0
#: Four heartbeats of the default length: a path that is silent for longer is dead.
_SILENCE_SECONDS: Final = 60.0
_TIMEOUT: Final = httpx.Timeout(10, read=_SILENCE_SECONDS)


class NoMore(Exception):
    """The server says that the stream has ended, or is gone, without a terminal event for this cursor."""


def follow(http: httpx.Client, url: str, waiting: Callable[[str], None]) -> Iterator[Received]:
    """Yield every event of the stream, the terminal one last.

    `waiting` is told why there is a pause before each further connection. Raises `NoMore`, and `CannotStart` when
    the server refuses the request for good.
    """
    decoder = Decoder()
    failures = 0
    while True:
        reason = "the server ended the response"
        try:
            for received in _one_response(http, url, decoder):
                failures = 0
                yield received
                if received.type in TERMINAL:
                    return
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
        delay = _delay(decoder.retry_ms or _RETRY_MS, failures)
        failures += 1
        waiting(f"{reason}; connecting again")
        time.sleep(delay)
        decoder = Decoder(cursor=decoder.cursor, retry_ms=decoder.retry_ms)


def _one_response(http: httpx.Client, url: str, decoder: Decoder) -> Iterator[Received]:
    headers = {"accept": "text/event-stream"}
    if decoder.cursor:
        headers["last-event-id"] = decoder.cursor
    with http.stream("GET", url, headers=headers, timeout=_TIMEOUT) as response:
        if response.status_code in {204, 404}:
            raise NoMore
        if 400 <= response.status_code < 500:
            response.read()
            raise CannotStart(refusal(response))
        if response.status_code != 200:
            raise httpx.RemoteProtocolError(f"the server answers with status {response.status_code}")
        for chunk in response.iter_raw():
            yield from decoder.feed(chunk)


def refusal(response: httpx.Response) -> str:
    """What a problem document says to a person."""
    try:
        problem = response.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        detail = response.text.strip()[:500] or response.reason_phrase
    return f"The server refuses ({response.status_code}): {detail}"


def _delay(retry_ms: int, failures: int) -> float:
    """Seconds: as the server asked at first, then longer, never all readers at the same moment."""
    return min(_LONGEST_WAIT_SECONDS, retry_ms / 1000 * 2 ** min(failures, 10)) * random.uniform(0.75, 1.25)
