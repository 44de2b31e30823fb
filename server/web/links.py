"""The header `Link` (RFC 8288): where a JSON answer goes on.

`next` is the next page; `monitor` (RFC 5989) the event stream that goes on behind what the answer holds, so that a page
can show that and then follow from exactly there.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode


def link(path: str, parameters: Mapping[str, str], *, rel: str) -> str:
    """One value of the header. The parameters that are empty are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value}, safe=":,-", quote_via=quote)
    return f'<{path}{"?" if query else ""}{query}>; rel="{rel}"'


def monitor_link(path: str, cursor: str) -> str:
    """The event stream at this path, behind the cursor."""
    return link(path, {"last_event_id": cursor}, rel="monitor") + '; type="text/event-stream"'
