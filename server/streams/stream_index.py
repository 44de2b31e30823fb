"""The names of shared streams, for lists: which there are, in the order of their names.

Invariant: a stream that an append began is on the index once that append was answered; who dies in between leaves it
out until its next generation, or its next settings. A name whose stream is gone leaves when a list meets it, or when
the walk of some server does. In a Cluster the index is one key of its own slot: it is written once for each stream, not
for each event. Nothing scans keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.streams import calls
from server.streams.calls import About
from server.streams.connections import AsyncClient, execute, run
from server.streams.errors import StreamsError
from server.streams.jitter import jitter
from server.streams.keys import Keys

_log = logging.getLogger(__name__)

#: Names looked at in one go: a list's page, and a step of the walk.
_STEP: Final = 100
#: Of those at the same time: publishers need connections, too.
_TOGETHER: Final = 8
#: Goes of a list that meets nothing but names of streams that are gone; then its page is a short one.
_MOST_STEPS: Final = 20
#: Of the walk, between two steps: a hundred thousand names take it half a day, and lists mend what they meet.
_PAUSE_SECONDS: Final = 30.0
#: Above every character that a name may have.
_ABOVE_ALL: Final = "\x7f"


async def enlist(client: AsyncClient, keys: Keys, stream: str) -> None:
    """Put a stream on the index. Raises `LogUnavailable`."""
    await run(client, calls.enlist(keys, stream))


@dataclass(frozen=True, slots=True)
class Listed:
    """A stream in a list."""

    name: str
    about: About


@dataclass(frozen=True, slots=True)
class StreamPage:
    """Streams by name, and behind which name the next page begins (None at the end)."""

    streams: list[Listed]
    next_cursor: str | None


class StreamIndex:
    """Lists streams, and forgets those that are gone."""

    def __init__(self, client: AsyncClient, keys: Keys, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._client = client
        self._keys = keys
        self._pause_seconds = pause_seconds
        #: How far the walk has come: the last name it looked at.
        self._walked = ""

    async def list(self, *, prefix: str, limit: int, cursor: str | None = None) -> StreamPage:
        """Up to `limit` streams whose names begin with `prefix`, behind the name `cursor`; fewer if very many are gone.

        Raises `LogUnavailable`.
        """
        found: list[Listed] = []
        behind = cursor if cursor is not None and cursor > prefix else None
        for step in range(_MOST_STEPS):
            names = await self._names(prefix, behind, _STEP if step else limit + 1)
            there = await self._look_at(names)
            found += [Listed(name, each) for name, each in zip(names, there, strict=True) if each is not None]
            if len(found) > limit:
                return StreamPage(found[:limit], found[limit - 1].name)
            if not names:
                return StreamPage(found, None)
            behind = names[-1]
        return StreamPage(found, behind)

    async def run(self) -> None:
        """Walk the index for ever, a step at a time; a failed step is tried again."""
        is_waiting = False
        while True:
            await asyncio.sleep(self._pause_seconds * jitter.uniform(0.5, 1.5))
            try:
                await self.walk()
                is_waiting = False
            except StreamsError as error:
                _log.log(logging.DEBUG if is_waiting else logging.WARNING, "The list of streams waits: %s", error)
                is_waiting = True

    async def walk(self) -> None:
        """Look at the next names, from the first again behind the last one. Raises `LogUnavailable`."""
        names = await self._names("", self._walked or None, _STEP)
        await self._look_at(names)
        self._walked = names[-1] if len(names) == _STEP else ""

    async def _names(self, prefix: str, behind: str | None, limit: int) -> list[str]:
        lowest = f"({behind}" if behind is not None else f"[{prefix}" if prefix else "-"
        found: Any = await execute(
            self._client,
            *("ZRANGEBYLEX", self._keys.streams_index, lowest, f"({prefix}{_ABOVE_ALL}"),
            *("LIMIT", 0, min(limit, _STEP)),
        )
        return [name.decode() for name in found]

    async def _look_at(self, names: Sequence[str]) -> Sequence[About | None]:
        """Each of these streams, None for those that are gone, which are taken off the index."""
        there = [each if each.is_known else None for each in await self._about(names)]
        if gone := [name for name, each in zip(names, there, strict=True) if each is None]:
            await execute(self._client, "ZREM", self._keys.streams_index, *gone)
            # One may have begun since it was looked at: whoever began it puts it on the index afterwards, or did so
            # just before it was taken off.
            for name, again in zip(gone, await self._about(gone), strict=True):
                if again.is_known:
                    await enlist(self._client, self._keys, name)
        return there

    async def _about(self, names: Sequence[str]) -> list[About]:
        found: list[About] = []
        for start in range(0, len(names), _TOGETHER):
            some = [calls.about(self._keys, name) for name in names[start : start + _TOGETHER]]
            found += await asyncio.gather(*(run(self._client, call) for call in some))
        return found
