"""Pages of other origins: which may read this server, and the headers that tell their browsers so.

Invariant: the headers are on every answer, refusals, 204 and errors of our own included. Without them a browser
closes an EventSource of another origin for good, whatever the status.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
_ASKED: Final = ("Accept", "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID")
_SHOWN: Final = ("Location", "Retry-After")


class Application(Starlette):
    """Starlette, with pages of `origins` let in."""

    def __init__(self, *, origins: tuple[str, ...], **options: Any) -> None:
        self._origins = origins
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        inner = super().build_middleware_stack()
        if not self._origins:
            return inner
        # Around Starlette's own stack, whose outermost part answers unexpected errors.
        return CORSMiddleware(
            inner, allow_origins=self._origins, allow_methods=_METHODS, allow_headers=_ASKED, expose_headers=_SHOWN
        )
