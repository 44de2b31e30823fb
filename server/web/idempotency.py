"""The header by which a repeated request is known again: browsers and proxies repeat what died unanswered."""

from __future__ import annotations

from typing import Final

from server.web.problems import Problem, shown
from server.web.requests import AnyRequest, single_header

#: Far above a UUID, which is what most send.
_LONGEST_KEY: Final = 255


def idempotency_key(request: AnyRequest) -> str | None:
    """The key, None without one. Raises `Problem` 400 for one that cannot be kept."""
    key = single_header(request, "Idempotency-Key")
    if key is None:
        return None
    if 1 <= len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable():
        return key
    raise Problem(
        400, f"The Idempotency-Key {shown(key)} does not work. Use 1 to {_LONGEST_KEY} printable ASCII characters."
    )
