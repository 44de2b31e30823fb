"""What may stand behind the `?` of a URL of Redis, and the sentence for what may not.

Invariant: what is taken here works at the first command: redis-py itself finds out about an unknown option, or one of
TLS without TLS, only when it dials, and then by a traceback. A value is never shown, nor a name that may be a part of
a password. Pure: whether files are there is asked by `files`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

_ANY: Final = frozenset({"db", "username", "password", "password_file"})
SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
#: Those of redis-py that can be written in a URL.
_TLS: Final = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    }
)
_KNOWN: Final = _ANY | SENTINEL_OPTIONS | _TLS
#: Of the second redis-py takes any other word for yes.
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false", "yes", "no", "1", "0"),
}
#: From 1.0 to 1.3, as TLS itself counts.
_TLS_VERSIONS: Final = frozenset({"769", "770", "771", "772"})
_CAPITALS: Final = {("ssl_check_hostname", "True"), ("ssl_check_hostname", "False")}
_NAME: Final = re.compile(r"[a-z_]{1,40}", re.IGNORECASE)


class Fault(Exception):
    """What is wrong behind the scheme. redis-py itself would read past much of it, and use another database."""

    def __init__(self, text: str, offending: str = "", *, way_out: str = "", may_be_quoting: bool = False) -> None:
        super().__init__(text)
        #: Where the offending text goes if it may be shown, it has `{shown}`, for brackets around it, or `{named}`.
        self.text = text
        self.offending = offending
        #: Instead of how such a URL is written.
        self.way_out = way_out
        #: Whether a `/` or `#` that stands in a password as it is may be the reason.
        self.may_be_quoting = may_be_quoting


def read_options(query: str, *, has_tls: bool, asks_sentinels: bool) -> dict[str, str]:
    """The options by name. Raises `Fault`."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in _KNOWN:
            raise _unknown(name)
        if name in SENTINEL_OPTIONS and not asks_sentinels:
            way_out = "Leave it out, or write redis+sentinel://host:26379,host:26379/name-of-the-master/0"
            raise Fault(f"has an option {name!r}, which only sentinels are given", way_out=way_out)
        if name in _TLS and not has_tls:
            way_out = "Begin it with rediss:// (or rediss+sentinel://, rediss+cluster://), or leave that option out"
            raise Fault(f"has an option {name!r}, which is of TLS, and its scheme has none", way_out=way_out)
        _check_value(name, value)
    return options


def _unknown(name: str) -> Fault:
    near = difflib.get_close_matches(name.lower(), sorted(_KNOWN), n=1, cutoff=0.7) if _NAME.fullmatch(name) else []
    if near:  # so like a known one that it is no part of a password
        return Fault(f"has an option {name!r} that Reprise does not take; did you mean {near[0]}?")
    return Fault("has an option{named} that Reprise does not take; docs/settings.md lists those that it does", name)


def _check_value(name: str, value: str) -> None:
    if name == "db" and not value.isdecimal():
        raise Fault("has an option 'db' that is no number of a database")
    if name == "ssl_min_version" and value not in _TLS_VERSIONS:
        way_out = "Write 772 for TLS 1.3, 771 for TLS 1.2"
        raise Fault("has an option 'ssl_min_version' that is no number of a version of TLS", way_out=way_out)
    if name == "password_file" and not value:
        raise Fault("has an option 'password_file' without the path of a file")
    words = _WORDS.get(name)
    if words and value not in words and (name, value) not in _CAPITALS:
        raise Fault(f"has an option {name!r} that is none of {', '.join(words)}")
