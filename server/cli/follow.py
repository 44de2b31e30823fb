"""Reading one event stream to its end, over as many connections as it takes.

Invariant: every connection asks for what comes after the last event that was handed out, so that the caller sees
each event once. Only the event that the caller calls the end, or an answer that says there is no more, is the end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from server.cli.decoding import Decoder, Received
from server.cli.server import PASSING, Refused, refusal, why_lost
from server.streams.event import CANCELLED, COMPLETE, ERROR

TERMINAL: Final = frozenset({COMPLETE, ERROR, CANCELLED})
#: What a browser waits unless told otherwise.
_RETRY_MS: Final = 2000
#: A person who waits at a terminal should not have to wonder whether it still tries.
_LONGEST_WAIT_SECONDS: Final = 30.0
#: Three heartbeats of the default length: a path that is silent for longer is dead.
SILENCE_SECONDS: Final = 45.0
_EVENT_STREAM: Final = "text/event-stream"
#: What a server says by itself; any other comment tells why it ends a response without an event.
_USUAL_COMMENTS: Final = frozenset({"", "reprise", "heartbeat"})


class _Later(httpx.RemoteProtocolError):
    """An answer, but one that passes; its text says which."""


class NoMore(Exception):
    """The server says that the stream has ended, or is gone, without a terminal event for this cursor."""


def is_terminal(received: Received) -> bool:
    """Whether it ends the one stream that is followed."""
    return received.type in TERMINAL


def follow(
    http: httpx.Client,
    url: str,
    telling: Callable[[str], None],
    *,
    cursor: str = "",
    is_end: Callable[[Received], bool] = is_terminal,
    silence_seconds: float = SILENCE_SECONDS,
    is_known: bool = True,
) -> Iterator[Received]:
    """Yield every event of the stream after the cursor, the one that is its end last.

    `telling` is told why there is a pause before another connection, the same reason once, and when events come again.
    `is_known` says that there is a server: if not, one that cannot be reached at first raises `httpx.ConnectError`.
    Raises `NoMore`, and `Refused` when the server refuses the request for good.
    """
    decoder = Decoder(cursor=cursor)
    timeout = httpx.Timeout(10, read=silence_seconds)
    failures, told = 0, ""
    while True:
        try:
            for received in _one_response(http, url, decoder, timeout):
                if failures:
                    telling("connected again, and going on where it was")
                failures, told, is_known = 0, "", True
                yield received
                if is_end(received):
                    return
            reason = _why_it_ended(decoder)
        except httpx.UnsupportedProtocol:
            raise  # a transport error by descent only: it says that the address is none
        except httpx.TransportError as error:
            if isinstance(error, httpx.ConnectError) and not is_known:
                raise
            reason = _why_it_broke(error, http, silence_seconds)
        is_known = True
        delay = _delay(decoder.retry_ms or _RETRY_MS, failures)
        failures += 1
        if reason != told:
            telling(f"{reason}; connecting again")
        told = reason
        time.sleep(delay)
        decoder = Decoder(cursor=decoder.cursor, retry_ms=decoder.retry_ms)


def _one_response(http: httpx.Client, url: str, decoder: Decoder, timeout: httpx.Timeout) -> Iterator[Received]:
    # Compressed on the way, an event would wait for others.
    headers = {"accept": _EVENT_STREAM, "accept-encoding": "identity"}
    if decoder.cursor:
        headers["last-event-id"] = decoder.cursor
    with http.stream("GET", url, headers=headers, timeout=timeout) as response:
        status = response.status_code
        if status == 204:
            raise NoMore
        if 300 <= status < 500 and status not in PASSING:
            response.read()
            raise Refused(refusal(response), status=status)
        if status != 200:
            raise _Later(f"the server answers with status {status}")
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != _EVENT_STREAM:
            raise Refused(f"What is at {response.url} is no event stream, but {media_type or 'of no type'}.")
        try:
            for chunk in response.iter_raw():
                yield from decoder.feed(chunk)
        except httpx.RemoteProtocolError:
            raise httpx.ReadError("its answer is not whole") from None


def _why_it_ended(decoder: Decoder) -> str:
    if decoder.comment in _USUAL_COMMENTS:
        return "the server ended the response"
    return f"the server says: {decoder.comment.rstrip('.')}"


def _why_it_broke(error: httpx.TransportError, http: httpx.Client, silence_seconds: float) -> str:
    if isinstance(error, httpx.ReadTimeout):
        return f"nothing has come for {silence_seconds:g} s, not even a heartbeat"
    return str(error) if isinstance(error, _Later) else why_lost(error, http)


def _delay(retry_ms: int, failures: int) -> float:
    """Seconds: as the server asked at first, then longer, never all readers at the same moment."""
    return min(_LONGEST_WAIT_SECONDS, retry_ms / 1000 * 2 ** min(failures, 10)) * random.uniform(0.75, 1.25)
