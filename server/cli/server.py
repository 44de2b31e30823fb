"""The server that a command asks over HTTP, by the address that a person gave.

Invariant: an address that is none is a sentence, in the error of the command that was given it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import httpx

from server.streams.settings import CannotStart

NOBODY: Final = "Nothing answers at {}. Start a server with `reprise dev`, or name another one with --url."


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
        raise refused(f"{url!r} is not a URL: {error}. Write it as http://127.0.0.1:8000") from None
