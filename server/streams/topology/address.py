"""The URL of Redis: what it says, in parts, and in a sentence what is wrong with one that does not work.

`redis://` and `unix://` name one server, `redis+sentinel://` the sentinels and the master they watch over,
`redis+cluster://` some nodes of a Cluster; with `rediss` every connection uses TLS. Invariant: what may hold a password
is never shown. Pure: nothing is looked up, dialled or read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from server.streams.errors import InvalidInput
from server.streams.topology.options import Fault, read_options

_DATABASE: Final = re.compile(r"/?|/[0-9]{1,9}")
#: The first part of a path, if it is a name.
_SERVICE: Final = re.compile(r"/([A-Za-z0-9._-]{1,128})(?=/|$)")
#: The names of a master that Redis' own sentinels take.
_SERVICE_RULE: Final = "A-Z a-z 0-9 . _ -"


class Kind(Enum):
    """How to find the server that has the data."""

    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_KINDS: Final[Mapping[str, Kind]] = {
    "redis": Kind.ONE,
    "rediss": Kind.ONE,
    "unix": Kind.ONE,
    "redis+sentinel": Kind.SENTINEL,
    "rediss+sentinel": Kind.SENTINEL,
    "redis+cluster": Kind.CLUSTER,
    "rediss+cluster": Kind.CLUSTER,
}
_PORTS: Final[Mapping[Kind, int]] = {Kind.ONE: 6379, Kind.SENTINEL: 26379, Kind.CLUSTER: 6379}
_FORMS: Final[Mapping[Kind, str]] = {
    Kind.ONE: "redis://host:6379/0",
    Kind.SENTINEL: "redis+sentinel://host:26379,host:26379/name-of-the-master/0",
    Kind.CLUSTER: "redis+cluster://host:6379,host:6379",
}


@dataclass(frozen=True, slots=True, order=True)
class Host:
    """Where one server listens."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL in parts."""

    kind: Kind
    #: Sentinels, or some nodes of a Cluster; empty for one server.
    hosts: tuple[Host, ...] = ()
    #: What the sentinels call the master.
    service: str = ""
    #: For redis-py, of the one server; without the password where that is in a file.
    url: str = field(default="", repr=False)
    #: Holds the password, and is read again for each connection.
    password_file: str | None = None
    #: Whose password that is; None for the user that Redis calls `default`.
    username: str | None = None
    has_tls: bool = False
    #: The options of TLS, by their names in the URL.
    tls: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    _userinfo: str = field(default="", repr=False)
    _sentinel_userinfo: str = field(default="", repr=False)
    _database: str = "0"
    _query: str = field(default="", repr=False)

    def url_of(self, host: Host) -> str:
        """For redis-py, of one server among several."""
        return self._url(f"{self._userinfo}{host}/{self._database}", self._query)

    def url_of_sentinel(self, host: Host) -> str:
        """Sentinels have a user and a password of their own, and no databases."""
        return self._url(f"{self._sentinel_userinfo}{host}/0", urlencode(self.tls))

    def _url(self, place: str, query: str) -> str:
        return f"{'rediss' if self.has_tls else 'redis'}://{place}{'?' if query else ''}{query}"


def check_url(url: str, *, what: str = "REPRISE_REDIS_URL") -> str:
    """Return the URL if it can be used; raise `InvalidInput` otherwise. One that may hold a password is not shown."""
    parse_address(url, what=what)
    return url


def parse_address(url: str, *, what: str = "REPRISE_REDIS_URL") -> Address:
    """What the URL says. Raises `InvalidInput`, with `what` for the name of what was given."""
    scheme, separator, _ = url.partition("://")
    kind = _KINDS.get(scheme) if separator else None
    if kind is None:
        begins = f"begins with {scheme[:20]!r}" if separator else "has no scheme"
        raise InvalidInput(
            f"{what} {begins}. Use redis://host:port/0, rediss:// for TLS, unix:///path/to/socket, "
            "redis+sentinel:// or redis+cluster://."
        )
    may_show = "@" not in url and "password" not in url
    try:
        return _parse(url, scheme, kind)
    except Fault as fault:
        form = "unix:///path/to/socket" if scheme == "unix" else _FORMS[kind].replace("redis", scheme.partition("+")[0])
        hint = ", with %23 for # and %2F for / in a password" if fault.may_be_quoting and not may_show else ""
        shown = named = ""
        if may_show and fault.offending:
            named = f" {fault.offending[:60]!r}"
            shown = f" ({named.lstrip()})"
        text = fault.text.replace("{shown}", shown).replace("{named}", named)
        way_out = fault.way_out or f"Write it as {form}{hint}"
        raise InvalidInput(f"{what} {text}{'' if text.endswith('?') else '.'} {way_out}.") from None


def _parse(url: str, scheme: str, kind: Kind) -> Address:
    try:
        parts = urlsplit(url)
        userinfo, at, places = parts.netloc.rpartition("@")
        _check_places(places, scheme, kind)
        hosts = () if scheme == "unix" else tuple(_host(place, kind) for place in _split(places, kind))
    except ValueError:  # its text repeats a part of what may be a password
        text = "has a host and port that cannot be read{shown}; a port is a number from 1 to 65535"
        raise Fault(text, url.partition("://")[2], may_be_quoting=True) from None
    if any(host.port == 0 for host in hosts):
        raise Fault("has the port 0; a port is a number from 1 to 65535")
    if "#" in url:
        raise Fault("has a '#', which must be written %23", may_be_quoting=True)
    service, database = _place(parts.path, scheme, kind)
    options = read_options(parts.query, has_tls=scheme.startswith("rediss"), asks_sentinels=kind is Kind.SENTINEL)
    option = options.get("db")
    if database and option and int(database) != int(option):
        raise Fault("names two databases{shown}; leave one of them out", f"/{database} and db={option}")
    database = option or database or "0"
    if kind is Kind.CLUSTER and int(database):
        raise Fault("names a database, and a Cluster has only one")
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    own = {name: value for name, value in options.items() if name in {"username", "password"}}
    sentinel = [quote(options.get(f"sentinel_{part}", ""), safe="") for part in ("username", "password")]
    password_file, username = options.get("password_file"), None
    if password_file is not None:
        username, userinfo, at, own = _user_without_password(userinfo, own), "", "", {}
        rest = urlencode({name: value for name, value in options.items() if name not in {"password_file", "username"}})
        url = f"{scheme}://{places}{parts.path}{'?' if rest else ''}{rest}"
    return Address(
        kind=kind,
        hosts=() if kind is Kind.ONE else hosts,
        service=service,
        url=url if kind is Kind.ONE else "",
        password_file=password_file,
        username=username,
        has_tls=scheme.startswith("rediss"),
        tls=tls,
        _userinfo=userinfo + at,
        _sentinel_userinfo=":".join(sentinel) + "@" if any(sentinel) else "",
        _database=database,
        _query=urlencode({**own, **tls}),
    )


def _check_places(places: str, scheme: str, kind: Kind) -> None:
    if scheme == "unix" and places:
        text = "names a socket by a path that does not begin with '/'{shown}"
        raise Fault(text, places, way_out="Write it as unix:///path/to/socket, with three slashes")
    if kind is Kind.ONE and "," in places:
        tls = "s" if scheme == "rediss" else ""
        raise Fault(
            "names several hosts, and such a URL has one{shown}",
            places,
            way_out=f"Write sentinels as redis{tls}+sentinel://host:26379,host:26379/name-of-the-master/0, "
            f"and nodes of a Cluster as redis{tls}+cluster://host:6379,host:6379",
        )


def _split(places: str, kind: Kind) -> list[str]:
    return [places] if kind is Kind.ONE else places.split(",")


def _host(place: str, kind: Kind) -> Host:
    """Raises `ValueError`."""
    parts = urlsplit(f"//{place}")
    if kind is not Kind.ONE and not parts.hostname:
        raise ValueError(place)
    port = parts.port
    return Host(parts.hostname or "localhost", _PORTS[kind] if port is None else port)


def _place(path: str, scheme: str, kind: Kind) -> tuple[str, str]:
    """The name of the master, where there is one, and the number of the database; empty where none is named."""
    if scheme == "unix":
        if len(path) < 2:
            raise Fault("names no socket")
        return "", ""
    service = ""
    if kind is Kind.SENTINEL:
        found = _SERVICE.match(path)
        if found is None:
            text = f"does not name the master behind the hosts{{shown}}; a name has {_SERVICE_RULE}"
            raise Fault(text, path, may_be_quoting=True)
        service, path = found[1], path[found.end() :]
    if not _DATABASE.fullmatch(path):
        raise Fault("ends with what is no number of a database{shown}", path, may_be_quoting=True)
    return service, path.strip("/")


def _user_without_password(userinfo: str, options: Mapping[str, str]) -> str | None:
    name, _, password = userinfo.partition(":")
    if password or "password" in options:
        raise Fault("has a password and a password_file; leave one of them out")
    return options.get("username") or unquote(name) or None
