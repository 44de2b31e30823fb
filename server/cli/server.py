"""The server that a command asks over HTTP, by the address that a person gave; and what it means if that does not help.

Invariant: an address that is none, a server that is not there and one that refuses are each a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar, Final

import httpx

from server.streams.settings import CannotStart

NOBODY: Final = "Nothing answers at {}. Start a server with `reprise dev`, or name another one with --url."
_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ")
_SENTENCE_END: Final = re.compile(r"(?<=[.?!])\s")
#: These come from proxies on the way, and pass like the errors of a server.
PASSING: Final = frozenset({408, 429})
#: What a shell reports of a program that SIGINT ended: 128 + 2.
INTERRUPTED: Final = 130
#: And of one whose reader has gone: 128 + SIGPIPE.
UNREAD: Final = 141


class Refused(CannotStart):
    """The caller's: the server understands, and does not do it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Unreachable(CannotStart):
    """Nobody's: no server that could be asked."""

    exit_code: ClassVar[int] = 2


class Misused(CannotStart):
    """The caller's: arguments that say nothing which could be asked of a server."""

    exit_code: ClassVar[int] = 2


@contextmanager
def server_at(url: str, refused: type[CannotStart]) -> Generator[httpx.Client]:
    """A client whose requests are joined to the address. Raises `refused` if it is no URL."""
    base = f"{url if '://' in url else f'http://{url}'}".rstrip("/") + "/"
    try:
        # A proxy for the outside world must not be asked for this machine.
        is_local = httpx.URL(base).host in {"127.0.0.1", "localhost", "::1"}
        with httpx.Client(base_url=base, timeout=10, trust_env=not is_local) as http:
            yield http
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise refused(f"{url!r} is not a URL: {str(error).rstrip('.')}. Write it as http://127.0.0.1:8000") from None


def refusal(response: httpx.Response) -> str:
    """What a problem document says to a person."""
    return f"The server refuses ({response.status_code}): {detail_of(response)}"


def why_lost(error: httpx.TransportError, http: httpx.Client) -> str:
    """Why a server has not answered, which may pass: who, and what the system says of it."""
    server = str(http.base_url).rstrip("/")
    reason = _ERRNO.sub("", str(error)).rstrip(".") or type(error).__name__
    reason = reason[:1].lower() + reason[1:]
    if isinstance(error, httpx.ConnectError):
        return f"{server} cannot be reached ({reason})"
    if isinstance(error, httpx.TimeoutException):
        return f"{server} does not answer in time"
    return f"the connection to {server} broke off ({reason})"


def why_not(response: httpx.Response) -> str:
    """Why a server does not do it now. What follows on that in the answer is advice for whoever writes a client."""
    return f"The server refuses ({response.status_code}): {_SENTENCE_END.split(detail_of(response), 1)[0]}"


def detail_of(response: httpx.Response) -> str:
    """The sentence of a problem document; of anything else its beginning."""
    if response.is_redirect and (where := response.headers.get("location")):
        return f"It has moved. Use the new address: {where}"
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:500] or response.reason_phrase
