"""What a refusal of Redis means, and a silence: whether to wait or not, and what a person can do about it. Pure.

Redis' errors begin with a code. Most say "not now": memory or disk are full, this is no master any more, data are being
loaded, an ACL is about to be changed. A few say "never": no waiting makes another type of a key. Both are sentences for
a person. Source: the error codes of Redis 7.0 and Valkey 9.1, as their servers send them.

Who gave no answer may come back, so a silence always means to wait. Why it is silent stands in words of the resolver,
OpenSSL, sentinels or our own. Whoever asks from outside is told the kind alone; the log has the words and the way out.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from server.streams.errors import LogRefused, LogUnavailable

#: What helps, by code. Whoever has none of these only needs time.
_WAYS_OUT: Final = {
    "OOM": "Its memory is full (maxmemory): add some, or lower REPRISE_RETENTION_SECONDS or REPRISE_MAX_STREAM_BYTES.",
    "MISCONF": "It cannot write to its disk: make room there, and look at its log.",
    "READONLY": "It is a replica, perhaps a master that was demoted: REPRISE_REDIS_URL must lead to the master.",
    "NOREPLICAS": "Too few replicas are connected to it (min-replicas-to-write): bring them back.",
    "LOADING": "It loads its data; it will answer when it is done.",
    "TRYAGAIN": "What it needs is on its way to another node of the Cluster: try again once that slot has moved.",
    "NOAOF": "REPRISE_DURABILITY=fsync needs its append-only file: set 'appendonly yes'.",
    "NOWAITAOF": "REPRISE_DURABILITY=fsync needs Redis 7.2 or later, or Valkey: upgrade it, or set "
    "REPRISE_DURABILITY=fast.",
    "NOPERM": "Its ACL forbids it: grant this user the command, and keys and channels that begin with REPRISE_PREFIX.",
    "NOAUTH": "REPRISE_REDIS_URL has no password, and it wants one.",
    "WRONGPASS": "User and password in REPRISE_REDIS_URL, or in its password_file, are not what it knows.",
    "WRONGTYPE": "Somebody else wrote to a key of Reprise: remove that key, or take another REPRISE_PREFIX.",
    "CROSSSLOT": "Keys of one call lie in different slots of the cluster: this is a bug of Reprise, please report it.",
    "NODB": "It has no database of that number: the one in REPRISE_REDIS_URL must be below its setting 'databases' "
    "(16 if that is not set).",
    "NOCLUSTER": "It is no node of a Cluster: begin REPRISE_REDIS_URL with redis:// (or rediss://), and name one host.",
    "ERR": "This is a bug of Reprise, please report it.",
}
_LACKS_A_COMMAND: Final = re.compile("unknown (sub)?command", re.IGNORECASE)
_WHO_LACKS_ONE: Final = (
    "That server lacks a command which Reprise needs. A Sentinel has none of them: name it as "
    "redis+sentinel://host:26379/name-of-the-master in REPRISE_REDIS_URL. Otherwise it is too old, or of another make: "
    "docs/protocol.md says which ones are used."
)
#: Said of one call, whatever the state of the server: the same call fails again.
_NEVER: Final = frozenset({"WRONGTYPE", "CROSSSLOT", "ERR"})
#: Said before Redis does anything of a call. NOPERM is none of them: a script may be let write and then be forbidden to
#: ring the bell.
WITHOUT_EFFECT: Final = frozenset(
    {
        *("OOM", "MISCONF", "READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"),
        *("NOAUTH", "WRONGPASS", "NODB", "MAXCLIENTS"),
    }
)
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
#: With which Redis answers while a connection is made, or is asked for the map of a Cluster. That becomes a broken
#: connection without a code, or `ERR`, of which there are many.
_ON_CONNECTING: Final = (
    (re.compile("(ERR )?(DB index is out of range|Invalid Database)"), "NODB"),
    (re.compile("HELLO must be called with the client already authenticated|Authentication required"), "NOAUTH"),
    (re.compile("invalid username-password pair|Invalid Username or Password"), "WRONGPASS"),
    (re.compile("(.*: )?(ERR )?This instance has cluster support disabled", re.DOTALL), "NOCLUSTER"),
)
#: Under `ERR`, but of a known kind: scripts pass on what an ACL forbids in words of their own, a server that has no
#: room for another client has some later, and a password may be about to be changed.
_KNOWN_TEXTS: Final = (
    (re.compile("ACL failure in script|executing the script can't"), "NOPERM"),
    (re.compile("max number of clients"), "MAXCLIENTS"),
    (re.compile("WAIT(AOF)? cannot be used with replica"), "READONLY"),
    (re.compile("appendonly is disabled"), "NOAOF"),
    (re.compile("unknown command .?WAITAOF", re.IGNORECASE), "NOWAITAOF"),
    (re.compile("killed by user"), "BUSY"),
    (re.compile("Client sent AUTH|invalid password|without any password|'auth'|'AUTH'"), "WRONGPASS"),
)
#: What redis-py makes of an error in one of its pipelines.
_IN_A_PIPELINE: Final = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: \(['\"](.*)['\"],\)", re.DOTALL)


def refusal(text: str, *, code: str | None = None) -> LogUnavailable:
    """The error to raise for an error that Redis sent. `code` is for a text from which it was cut off."""
    if piped := _IN_A_PIPELINE.fullmatch(text):
        text = piped[1]
    first, _, rest = text.partition(" ")
    if code in {None, "ERR"}:
        code = _code_on_connecting(text) or code
    if code is None and _CODE.fullmatch(first):
        code, text = first, rest
    kind_of = code or ""
    if kind_of in {"", "ERR"}:  # a proxy in between has words of its own, and no code
        kind_of = next((found for words, found in _KNOWN_TEXTS if words.search(text)), kind_of)
    text = text.removeprefix("ERR ") if kind_of != "ERR" else text
    said = f"Redis refused: {f'{kind_of} {_without_script(text)}'.strip()}.".replace("..", ".")
    error = LogRefused if kind_of in _NEVER else LogUnavailable
    way_out = _WHO_LACKS_ONE if kind_of == "ERR" and _LACKS_A_COMMAND.search(text) else _WAYS_OUT.get(kind_of, "")
    return error(f"{said} {way_out}".rstrip(), code=kind_of)


def is_refused(text: str) -> bool:
    """Whether Redis answered, though redis-py calls it a broken connection."""
    return _code_on_connecting(text) is not None


def _code_on_connecting(text: str) -> str | None:
    return next((code for words, code in _ON_CONNECTING if words.match(text)), None)


def _without_script(text: str) -> str:
    """What a person reads: not by which line of which script it came."""
    return text.partition(" script: ")[0].strip()


#: Of who gave no answer at all.
SILENT: Final = "Redis does not answer."
#: What may be the reason if we speak TLS: others say nothing to that.
NO_TLS: Final = "If it speaks no TLS, which REPRISE_REDIS_URL asks for, begin that with redis://."
#: And if we speak none: whoever expects it hangs up on us.
_TLS: Final = "If it speaks TLS, begin REPRISE_REDIS_URL with rediss://."
_HUNG_UP: Final = re.compile("closed by server|closed the connection|reset by peer|Connection lost")


class _Silence(NamedTuple):
    """Why somebody gave no answer: by which words it is known, and what is said of it."""

    words: re.Pattern[str]
    #: What a person outside may know, without a host, a user or a file; `{0}` is the first group of the words.
    outside: str
    #: What whoever reads the log can do; empty where there is nothing but to wait, or to look who is meant.
    way_out: str = ""


#: The first that fits. What a sentinel said comes with its words "no sentinel of" in front.
_SILENCES: Final = (
    _Silence(
        re.compile("named the master '([^']*)': .*No such master"),
        "The sentinels know no master {0!r}, which REPRISE_REDIS_URL names.",
        "In REPRISE_REDIS_URL write the name that SENTINEL MASTERS shows: "
        "redis+sentinel://host:26379/name-of-the-master.",
    ),
    _Silence(
        re.compile("no sentinel of .*unknown command"),
        "What REPRISE_REDIS_URL names are no sentinels; they may be Redis itself.",
        "REPRISE_REDIS_URL names a Redis where it should name sentinels, which listen at 26379 as a rule; "
        "to do without Sentinel begin it with redis:// (or rediss://).",
    ),
    _Silence(
        re.compile(
            "no sentinel of .*(NOPERM|permissions|HELLO must|Authentication required|invalid username-password)"
        ),
        "The sentinels refuse user or password: those go into sentinel_username and sentinel_password in "
        "REPRISE_REDIS_URL.",
    ),
    _Silence(
        re.compile("the password file .* (cannot be read|is empty)"),
        "The password_file of REPRISE_REDIS_URL {0}.",
        "Put the password there.",
    ),
    _Silence(
        re.compile("CERTIFICATE_VERIFY_FAILED.* mismatch"),
        "Its certificate is not for the host that REPRISE_REDIS_URL names.",
        "Name it in REPRISE_REDIS_URL as its certificate does, or give it a certificate with that name.",
    ),
    _Silence(
        re.compile("CERTIFICATE_VERIFY_FAILED.*(has expired|is not yet valid)"),
        "Its certificate {0}.",
        "Give it a certificate that is valid today.",
    ),
    _Silence(
        re.compile("CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
        "Its certificate is not trusted (ssl_ca_certs).",
        "Nobody whom this machine trusts has signed its certificate: name who has with ssl_ca_certs= in "
        "REPRISE_REDIS_URL.",
    ),
    _Silence(
        re.compile("WRONG_VERSION_NUMBER|wrong version number|record layer"),
        "It speaks no TLS, and REPRISE_REDIS_URL asks for it.",
        "It speaks no TLS: begin REPRISE_REDIS_URL with redis://.",
    ),
    _Silence(re.compile("no sentinel of "), "No sentinel answers."),
    _Silence(
        re.compile("is no master, though a sentinel says so"),
        "The sentinels name a master that is none: wait for them.",
    ),
    _Silence(
        re.compile("Name or service not known|[Nn]ame resolution|No address asso"),
        "The host in REPRISE_REDIS_URL is not known.",
    ),
)


def silence(text: str) -> LogUnavailable:
    """The error to raise for a Redis that gave no answer, with what is known of why."""
    known = next((each for each in _SILENCES if each.words.search(text)), None)
    way_out = known.way_out if known else ""
    said = f"Redis did not answer: {text.rstrip('.')}. {way_out}".rstrip()
    return LogUnavailable(said, is_explained=bool(way_out))


def at_first(error: LogUnavailable, *, has_tls: bool, hint: str = "") -> str:
    """What is said of a Redis that has never answered: with what may be the reason, unless that is known.

    `has_tls`: whether we speak TLS to it; `hint`: what else to say.
    """
    if error.code or error.is_explained:
        return str(error)
    if has_tls:
        hint = NO_TLS
    elif _HUNG_UP.search(str(error)):
        hint = _TLS
    return f"{error} {hint}".rstrip()


def plainly(error: LogUnavailable) -> str:
    """Why Redis cannot be used now, for whoever may ask: without an address, a user or a secret."""
    if error.code:
        return f"Redis refuses: {error.code}. {_WAYS_OUT.get(error.code, '')}".rstrip()
    for words, outside, _ in _SILENCES:
        if found := words.search(str(error)):
            return f"Redis does not answer. {outside.format(*found.groups())}"
    return SILENT
