"""Pages of other origins: which may read this server, and the headers that tell their browsers so.

Invariant: the headers are on every answer, refusals, 204 and errors of our own included. Without them a browser
closes an EventSource of another origin for good, whatever the status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from server.web.leaving import LastAnswers

_METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
_ASKED: Final = ("Accept", "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID")
_SHOWN: Final = ("Link", "Location", "Retry-After")


class Application(Starlette):
    """Starlette, with pages of `origins` let in, and connections let go in a drain."""

    def __init__(self, *, origins: tuple[str, ...], is_draining: Callable[[], bool], **options: Any) -> None:
        self._origins = origins
        self._is_draining = is_draining
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        inner: ASGIApp = LastAnswers(super().build_middleware_stack(), is_draining=self._is_draining)
        if not self._origins:
            return inner
        # Around Starlette's own stack, whose outermost part answers unexpected errors.
        return CORSMiddleware(
            inner, allow_origins=self._origins, allow_methods=_METHODS, allow_headers=_ASKED, expose_headers=_SHOWN
        )
