"""HTTP clients for servers of this machine."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

#: Nothing here is encrypted, and a context of its own for each client would read every certificate authority there is:
#: a tenth of a second of the event loop, for each connection of a reader that comes and goes.
_WITHOUT_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client(base_url: str, *, timeout: float | httpx.Timeout = 30.0, **options: Any) -> httpx.AsyncClient:
    """A client of the server at `base_url` that no proxy of the environment gets in the way of. Seconds."""
    return httpx.AsyncClient(
        base_url=base_url, timeout=timeout, trust_env=False, verify=_WITHOUT_AUTHORITIES, **options
    )
