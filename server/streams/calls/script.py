"""What every call of a script is made of: the script, the call, the usual reply. No I/O.

The text of a script is put together from its file and the shared ones; Redis caches it under its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Generic, TypeVar

from server.streams.ids import ORIGIN, EventId, decode_event_id

T = TypeVar("T")
Argument = str | bytes | int

_PRELUDE_HERE: Final = "-- @prelude\n"
#: What a script may need that not all do, and where it goes.
_PARTS: Final = ("trim", "retain")


@dataclass(frozen=True, slots=True)
class Script:
    """The text of a script and the name under which Redis caches it."""

    text: str
    sha: str


@dataclass(slots=True)  # not frozen, nor is Batch: each append makes one, and freezing would take as long again
class Call(Generic[T]):
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    parse: Callable[[Any], T]

    def tail(self) -> tuple[Argument, ...]:
        """What follows the script or its hash in EVAL and EVALSHA."""
        return (len(self.keys), *self.keys, *self.args)


@cache
def script(name: str) -> Script:
    """The script of that name with what it shares with others."""
    folder = files("server.streams") / "scripts"
    return joined(name, lambda file: (folder / f"{file}.lua").read_text())


def joined(name: str, source: Callable[[str], str]) -> Script:
    """Put a script together from the texts of its files."""
    body, prelude = source(name), source("_prelude")
    # To make the prelude's functions takes Redis as long as an append; a script that can do without says where it goes.
    rest = body.replace(_PRELUDE_HERE, prelude) if _PRELUDE_HERE in body else prelude + body
    for part in _PARTS:
        if (here := f"-- @{part}\n") in rest:
            rest = rest.replace(here, source(f"_{part}"))
    text = source("_ring") + rest
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script decided, and the id that goes with it (`ORIGIN` where there is none)."""

    outcome: str
    id: EventId = ORIGIN


_STORED: Final = Reply("stored")


def parse_reply(raw: Sequence[Any]) -> Reply:
    if raw == b"stored":
        return _STORED
    has_id = len(raw) > 1 and isinstance(raw[1], bytes) and b"-" in raw[1]
    return Reply(raw[0].decode(), decode_event_id(raw[1]) if has_id else ORIGIN)


def flat(values: Mapping[str, str]) -> list[str]:
    return [text for item in values.items() for text in item]
