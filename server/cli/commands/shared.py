"""Options that several commands have, and the address of the server where none is named."""

from __future__ import annotations

from typing import Annotated

import typer

from server.streams.settings import load_settings

Url = Annotated[
    str | None,
    typer.Option(
        help="Where the server is. [default: REPRISE_HOST and REPRISE_PORT]", show_default=False, metavar="URL"
    ),
]

# Paragraphs of help are wrapped, but for those that begin with this mark.
AS_IT_STANDS = "\b\n"


def url_of_settings() -> str:
    from server.settings import ServerSettings

    settings = load_settings(ServerSettings)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
