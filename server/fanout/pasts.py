"""The compacted pasts of one watched stream, shared by readers that come late at about the same time.

Invariant: a past is given to those alone who begin at its cursor and want its types, and not once the log may have gone
back since its end was looked at. Whoever gets one that a moment ago was made for another has an earlier end: what has
come since is sent as it stands, and nothing is left out for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, NamedTuple
from weakref import WeakSet

from server.fanout.framed import Types
from server.fanout.past import Past, past_behind
from server.fanout.tail import Tail
from server.streams.ids import EventId

#: Readers that come back together come within this time of each other; and so much of a stream may come uncompacted.
_LASTING_SECONDS: Final = 2.0
#: Per stream; of some megabytes each if there are many keys. Those in use are not counted.
_MAX_KEPT: Final = 4


class _Key(NamedTuple):
    cursor: EventId
    types: Types | None
    #: A past that was begun before the log may have gone back is not that of those who come afterwards.
    forgotten: int


class _Survey:
    """One look at the keys of a past, for whoever waits for it."""

    def __init__(self, running: asyncio.Task[Past | None]) -> None:
        self.running = running
        self.waiting = 0


class Pasts:
    """Belongs to one event loop."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._surveys: dict[_Key, _Survey] = {}
        self._kept: OrderedDict[_Key, tuple[float, Past]] = OrderedDict()
        #: Also those that only their readers hold: what they keep for each other has to be freed too.
        self._alive: WeakSet[Past] = WeakSet()

    def __len__(self) -> int:
        return len(self._surveys) + len(self._kept)

    async def behind(self, cursor: EventId, *, types: Types | None) -> Past | None:
        """What a reader of these types can be shown compacted behind its cursor; None if there is nothing.

        Raises `LogUnavailable`.
        """
        # Of a task nothing is superseded, so what a filter shows changes nothing.
        key = _Key(cursor, None if self._tail.is_task else types, self._tail.forgotten)
        kept = self._kept.get(key)
        if kept is not None and asyncio.get_running_loop().time() < kept[0]:
            return kept[1]
        survey = self._surveys.get(key)
        if survey is None:
            looking = past_behind(self._tail, cursor, types=key.types)
            running = asyncio.create_task(looking, name=f"look at the keys of {self._tail.stream}")
            survey = self._surveys[key] = _Survey(running)
            running.add_done_callback(lambda done: self._surveyed(key, done))
        survey.waiting += 1
        try:
            return await asyncio.shield(survey.running)
        finally:
            survey.waiting -= 1
            if not survey.waiting and not survey.running.done():  # it may be long, and who comes next begins anew
                del self._surveys[key]
                survey.running.cancel()

    def expire(self) -> None:
        """Free what nobody gets any more."""
        now = asyncio.get_running_loop().time()
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._kept.popitem(last=False)
        for past in self._alive:
            past.expire()

    def _surveyed(self, key: _Key, done: asyncio.Task[Past | None]) -> None:
        if done.cancelled():
            return
        del self._surveys[key]
        if done.exception() is not None:
            return  # told to whoever still waits; not to the event loop
        past = done.result()
        if past is None:
            return
        self._alive.add(past)
        self._kept[key] = (asyncio.get_running_loop().time() + _LASTING_SECONDS, past)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
