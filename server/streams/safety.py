"""What is said of the time in which nothing becomes as durable as REPRISE_DURABILITY asks for.

Invariant: one line at its beginning and one at its end, however many requests meet it and also if none does. Requests
tell what they met; whoever asks again and again looks whether it lasts.

A replica that is connected proves nothing: it may be frozen, and a WAIT on a connection that has written nothing may be
answered at once (`durability`). So it is over once a replica has confirmed what stood in the log of its master when
that was first asked, which is behind whatever the last request wrote.

Of the disk less is known: no INFO says how far the file is synced. It is over once WAITAOF is reached, which it is not
while the file is off, nor after that until it has been written anew, and no sync is outstanding. With a disk that is
only slow that may be said between two syncs, and the next request that waits in vain is a new beginning.
"""

from __future__ import annotations

import logging
from typing import Any, Final, cast

from server.streams.connections import AsyncClient, each_node, execute
from server.streams.durability import Durability
from server.streams.errors import LogUnavailable
from server.streams.suitability import lacking

_log = logging.getLogger(__name__)

#: Whether it can wait at all is the question, and not how long that takes; 0 would be for ever.
_WAIT_MS: Final = 1


class Safety:
    """Of one server's Redis."""

    def __init__(self, client: AsyncClient, durability: Durability) -> None:
        self._client = client
        self._durability = durability
        self._since: float | None = None
        self._requests = 0
        #: Of each master, by the id of its log: what a replica has to confirm before it is over.
        self._offsets: dict[str, int] = {}

    def met(self, why: object, *, now: float) -> None:
        """A request waited in vain."""
        self._requests += 1
        self._offsets.clear()
        self._begin(str(why), now=now)

    async def look(self, *, now: float) -> None:
        """See whether anything is in the way, or still is. Raises `LogUnavailable`."""
        if self._durability.wait is None:
            return
        requests = self._requests
        if why := await self._why_not():
            self._begin(why, now=now)
        elif self._since is not None and await self._is_confirmed() and requests == self._requests:
            _log.info("What is written is as durable again as it has to be; for %.1f s it was not", now - self._since)
            self._since = None
            self._offsets.clear()

    def _begin(self, why: str, *, now: float) -> None:
        if self._since is None:
            self._since = now
            _log.warning("Nothing is as durable as it has to be: %s", why)

    async def _why_not(self) -> str:
        """Empty if every server can do it, as far as can be told without a write."""
        wait = (*(self._durability.wait or ())[:-1], _WAIT_MS)
        try:
            if sentences := await lacking(self._client, self._durability):
                return " ".join(sentences)
            for node in await each_node(self._client):
                await execute(node, *wait)
        except LogUnavailable as error:
            if not error.code:
                raise
            return str(error)  # it answers, and takes writes perhaps, but not what proves that they are safe
        return ""

    async def _is_confirmed(self) -> bool:
        # Of each server, so that all of them have been asked how far they are.
        return all([await self._is_confirmed_by(node) for node in await each_node(self._client)])

    async def _is_confirmed_by(self, node: AsyncClient) -> bool:
        if self._durability is Durability.FSYNC and not await self._is_synced(node):
            return False
        info = cast("dict[str, Any]", await execute(node, "INFO"))
        if self._durability is Durability.FSYNC:
            return int(info.get("aof_pending_bio_fsync", 0)) == 0
        wanted = self._offsets.setdefault(str(info.get("master_replid")), int(info["master_repl_offset"]))
        replicas = [cast("dict[str, Any]", info.get(f"slave{n}", {})) for n in range(int(info["connected_slaves"]))]
        return any(each.get("state") == "online" and int(each.get("offset", 0)) >= wanted for each in replicas)

    async def _is_synced(self, node: AsyncClient) -> bool:
        return self._durability.is_reached(await execute(node, *(self._durability.wait or ())))
