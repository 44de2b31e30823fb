"""What `reprise tail` is told to follow, and from where, as the address to ask. Pure but for the clock.

Invariant: what can be known to be wrong without a server is told without one; everything else is the server's to judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from time import time
from typing import Final
from urllib.parse import quote

import httpx

from server.cli.server import Misused
from server.streams.errors import InvalidInput
from server.streams.names import SYSTEM, TASKS, parse_stream_name, task_stream

_EXAMPLE: Final = "http://127.0.0.1:8000/streams/NAME/events"
_SPAN: Final = re.compile(r"(\d{1,9})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: The path of one stream, and how to name what it carries.
_PATHS: Final = (
    (re.compile(r".*/streams/([^/]+)/events"), "{}"),
    (re.compile(r".*/tasks/([^/]+)/events"), task_stream("{}")),
    (re.compile(r".*/stream/system"), SYSTEM),
    (re.compile(r".*/tasks/stream"), TASKS),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One address, which carries these streams."""

    #: Scheme, host and port.
    server: str
    #: Absolute, with its query.
    url: str
    #: Empty where the address does not tell; the ids of its events do then.
    streams: tuple[str, ...]
    #: After which event to begin.
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Begin:
    """Where to begin, and which events to ask for, as a person said it."""

    at: str | None = None
    last: int | None = None
    since: str | None = None
    types: tuple[str, ...] = ()
    #: Whether what is there already may come as fewer events that say the same.
    is_compact: bool = False


def target_of(names: list[str], begin: Begin, *, server: str) -> Target:
    """The address of these streams, or of the one URL or path. Raises `Misused`."""
    unique = tuple(dict.fromkeys(names))
    parameters, cursor = _parameters(begin)
    if any("/" in name for name in unique):
        if len(unique) != 1:
            raise Misused("A URL or path is followed by itself. Name several streams by their names.")
        return _at_address(unique[0], parameters, cursor, server)
    for name in unique:
        try:
            parse_stream_name(name)
        except InvalidInput as error:
            raise Misused(f"{error} Or give the address of a stream: http://… or /tasks/ID/events.") from None
    server = _with_scheme(server)
    if len(unique) == 1:
        url = f"{server}/streams/{unique[0]}/events"
    else:
        url = f"{server}/events"
        parameters = [*(("stream", name) for name in unique), *parameters]
    return Target(server, _with_query(url, parameters), unique, cursor)


def _at_address(text: str, parameters: list[tuple[str, str]], cursor: str, server: str) -> Target:
    if "://" in text:
        address = text.partition("#")[0]
    elif text.startswith("/"):
        address = _with_scheme(server) + text.partition("#")[0]
    else:
        raise Misused(f"{text!r} is neither a stream nor an address. Begin an address with http:// and a path with /.")
    try:
        url = httpx.URL(address)
        origin = str(url.copy_with(raw_path=b"", fragment=None))
        own = dict.fromkeys(name for name in url.params.get_list("stream") if name)
    except httpx.InvalidURL as error:
        raise Misused(f"{text!r} is not a URL: {error}. Write it as {_EXAMPLE}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise Misused(f"{text!r} is not a URL of a server. Write it as {_EXAMPLE}")
    streams = tuple(own) or _stream_of_path(url.path)
    return Target(origin, _with_query(address, parameters), streams, cursor)


def _stream_of_path(path: str) -> tuple[str, ...]:
    for pattern, name in _PATHS:
        if match := pattern.fullmatch(path):
            return (name.format(match[match.lastindex or 0]),)
    return ()


def _parameters(begin: Begin) -> tuple[list[tuple[str, str]], str]:
    """Of the query; and the cursor, which is sent as a header."""
    given = [name for name, value in (("--from", begin.at), ("--last", begin.last), ("--since", begin.since)) if value]
    if len(given) > 1:
        raise Misused(f"{' and '.join(given)} name several places to begin at. Use one of them.")
    cursor, found = "", list[tuple[str, str]]()
    if begin.at in {"earliest", "latest"}:
        found.append(("from", begin.at))
    elif begin.at is not None:
        # Copied with the blanks around it, it would be no header.
        cursor = begin.at.strip()
        if not (cursor and cursor.isascii() and cursor.isprintable()):
            raise Misused(f"--from is {begin.at!r}. Use earliest, latest, or an id as it was shown.")
    if begin.last is not None:
        found.append(("last", str(begin.last)))
    if begin.since is not None:
        found.append(("since", str(_milliseconds(begin.since))))
    for each in dict.fromkeys(begin.types):
        if not each.isprintable() or not each:
            raise Misused(f"--type is {each!r}, which is no type of events.")
        found.append(("type", each))
    if begin.is_compact:
        found.append(("compact", "true"))
    return found, cursor


def _milliseconds(text: str) -> int:
    """Since 1970: of a time, of as many milliseconds, or of so long ago."""
    if text.isascii() and text.isdigit():
        return int(text)
    if match := _SPAN.fullmatch(text):
        return int((time() - int(match[1]) * _UNITS[match[2]]) * 1000)
    try:
        # A time without an offset is what the clock on the wall shows.
        return int(datetime.fromisoformat(text.upper()).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise Misused(
            f"--since is {text[:64]!r}. Use a time such as 2026-11-26T18:30:00Z, or how long ago: 90s, 10m, 2h, 1d."
        ) from None


def _with_scheme(server: str) -> str:
    return (server if "://" in server else f"http://{server}").rstrip("/")


def _with_query(url: str, parameters: list[tuple[str, str]]) -> str:
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters)
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url
