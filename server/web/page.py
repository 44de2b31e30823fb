"""The pages at `/` and `/docs`, and their files under `/console/`.

Browsers ask again each time (`no-cache`) and get 304 for what has not changed, so a new release shows at once. The page
may load from this server and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOLDER: Final = Path(__file__).parent / "console"
_HEADERS: Final = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
#: Of files; the library's own refusal of others does not name them.
_METHODS: Final = ("GET", "HEAD")
#: The system's table of types may lack these, or know them under names of old.
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Page(StaticFiles):
    """The files as they are, with the headers of this page; or one of them, for every path."""

    def __init__(self, file: str | None = None) -> None:
        super().__init__(directory=_FOLDER)
        self._file = file

    async def get_response(self, path: str, scope: Scope) -> Response:
        # "." is what Starlette makes of the mount's own path: the page itself.
        wanted = self._file or ("index.html" if path == "." else path)
        if scope["method"] not in _METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(_METHODS)})
        response = await super().get_response(wanted, scope)
        response.headers.update(_HEADERS)
        known = _TYPES.get(Path(wanted).suffix)
        if known and "content-type" in response.headers:
            response.headers["content-type"] = known
        return response
