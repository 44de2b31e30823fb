"""Whether the writer of a watched task still lives: what a reader is told by `stalled`.

A server's heartbeats say nothing of the worker, and a dead worker says nothing at all; nor does anybody between a
failed attempt and the next one, which may be a long pause. So each watched task's record is
looked at once more when its lease should have run out, and once per lease otherwise: a few hundred records a second
for thousands of streams, some in one round trip. Nothing is judged before this process has been in touch with Redis for
one lease: after an outage every lease has run out, and every worker lives (docs/protocol.md, "Claims, leases, ends").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from server.streams.contact import Contact
from server.streams.errors import LogUnavailable
from server.streams.log import Log
from server.streams.records import Status
from server.streams.sign import Pause, Sign

_log = logging.getLogger(__name__)

#: Records read in one round trip.
_BATCH: Final = 200
#: Redis counts leases in its own time, and a renewal may be on its way.
_MARGIN_SECONDS: Final = 0.05
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Silence:
    """Why nobody writes a task that has begun and not ended."""

    #: Ms since epoch.
    since_ms: int
    #: Its attempt failed, and another follows; None if its worker is missed.
    pause: Pause | None = None


class Life:
    """What is known of one task's writer. Pure; times are those of the event loop."""

    __slots__ = ("_lease_seconds", "look_at", "noted", "silence")

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        #: When the record is to be looked at; never before it has been seen at all.
        self.look_at = _NEVER
        #: Counts what it took in.
        self.noted = 0
        #: What readers are told; None while somebody is at work, or need not be.
        self.silence: Silence | None = None

    def note(self, sign: Sign | None, *, now: float, may_judge: bool) -> bool:
        """Take in what the record says; returns whether readers have to be told something else than before."""
        before = self.silence
        self.noted += 1
        self.look_at = now + self._lease_seconds
        if sign is None or sign.status is not Status.RUNNING:
            self.silence = Silence(sign.pause.since_ms, sign.pause) if sign and sign.pause else None
            if sign is not None and sign.status.is_ended:
                self.look_at = _NEVER
        elif sign.left_ms > 0:
            self.silence = None
            self.look_at = now + sign.left_ms / 1000 + _MARGIN_SECONDS
        elif may_judge:
            self.silence = Silence(sign.lease_until_ms)
        else:
            self.look_at = now
            if self.silence and self.silence.pause:
                self.silence = None  # an attempt has begun since, whatever has become of it
        return self.silence != before


class Watched(Protocol):
    """A tail, as far as it is needed here."""

    stream: str
    life: Life

    def wake(self) -> None: ...


class LifeWatch:
    """Looks after the writers of all watched tasks of one process."""

    def __init__(
        self, log: Log, tails: Callable[[], Sequence[Watched]], *, lease_seconds: float, may_judge: Callable[[], bool]
    ) -> None:
        """`may_judge` tells whether this process has been connected for a lease, as far as others know."""
        self._log = log
        self._tails = tails
        self._lease_seconds = lease_seconds
        self._may_judge = may_judge
        self._contact = Contact(max_silence_seconds=lease_seconds / 2)

    @property
    def may_judge(self) -> bool:
        """Whether a lease that has run out may be taken for lost: Redis has answered for a lease without a break."""
        return self._may_judge() and self._contact.seconds >= self._lease_seconds

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            try:
                await self.look_once()
            except LogUnavailable as error:
                self._contact.lost()
                _log.debug("Nobody can be missed while Redis is away: %s", error)
            await asyncio.sleep(min(1.0, self._lease_seconds / 4))

    async def look_once(self) -> None:
        """Look at the records that are due. Raises `LogUnavailable`."""
        loop = asyncio.get_running_loop()
        due = [tail for tail in self._tails() if tail.life.look_at <= loop.time()]
        # Also where nothing is due: what counts is that Redis was there all the time.
        for start in range(0, max(len(due), 1), _BATCH):
            some = due[start : start + _BATCH]
            noted = [tail.life.noted for tail in some]
            signs = await self._log.signs([tail.stream for tail in some])
            self._contact.heard()
            may_judge = self.may_judge
            for tail, sign, before in zip(some, signs, noted, strict=True):
                if tail.life.noted != before:
                    tail.life.look_at = loop.time()  # a reader's look was later, perhaps: what this one saw may be over
                elif tail.life.note(sign, now=loop.time(), may_judge=may_judge):
                    tail.wake()
