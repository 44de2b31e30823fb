"""The hub: every stream this process watches, and the subscribers of each.

Owns the map from stream to tail, its doorbell subscription, and the sweep: every few seconds the end of each watched
log is compared with the window's, because a ring may be lost and a log may go back. A process holds nothing that
cannot be lost: an empty hub serves any cursor from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from server.fanout.continuity import State
from server.fanout.subscription import Pace, Start, Subscription, first_cursor
from server.fanout.tail import Tail
from server.streams.doorbell import Doorbells
from server.streams.errors import LogUnavailable, Unknown
from server.streams.ids import ORIGIN
from server.streams.log import Log
from server.streams.names import starts_at_end

_log = logging.getLogger(__name__)

_SWEEP_BATCH: Final = 200
#: A reader with a cursor has seen this task. After Redis was emptied its living worker writes it back within a fifth
#: of a lease; a 404 before that would close the browser's stream for good.
_UNKNOWN_PATIENCE: Final = 0.4
_UNKNOWN_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Times in seconds, sizes in bytes."""

    heartbeat_seconds: float = 15.0
    max_stream_seconds: float = 1800.0
    sweep_seconds: float = 5.0
    lease_seconds: float = 15.0
    window_bytes: int = 262_144


@dataclass(slots=True)
class _Watch:
    """A tail and who reads it."""

    tail: Tail
    subscriptions: set[Subscription]
    #: Done once the doorbell is subscribed (or was given up on).
    ready: asyncio.Task[None]
    users: int = 0


class Hub:
    """Hands subscribers the frames of the streams they follow. Belongs to one event loop."""

    def __init__(self, log: Log, doorbells: Doorbells, *, options: HubOptions) -> None:
        self._log = log
        self._doorbells = doorbells
        self._options = options
        self._pace = Pace(
            heartbeat=options.heartbeat_seconds, max_age=options.max_stream_seconds, lease=options.lease_seconds
        )
        self._watches: dict[tuple[str, bool], _Watch] = {}
        self._is_draining = False
        self._swept_at = monotonic()
        self._unwatching: set[asyncio.Task[None]] = set()
        doorbells.on_connect = self._look_everywhere

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return sum(len(watch.subscriptions) for watch in self._watches.values())

    @property
    def watched(self) -> int:
        """How many streams are watched."""
        return len({stream for stream, _ in self._watches})

    @property
    def is_live(self) -> bool:
        """Whether new events reach this process: the doorbell is connected and the sweep keeps its time."""
        age = monotonic() - self._swept_at
        return self._doorbells.is_connected and age < 3 * self._options.sweep_seconds

    async def run(self) -> None:
        """Sweep for ever."""
        is_away = False
        while True:
            await asyncio.sleep(self._options.sweep_seconds)
            try:
                await self._sweep()
                self._swept_at = monotonic()
                if is_away:
                    _log.info("The sweep goes on: Redis answers again")
                is_away = False
            except LogUnavailable as error:
                if not is_away:
                    _log.warning("The sweep waits: %s", error)
                is_away = True

    async def subscribe(self, stream: str, start: Start) -> Subscription:
        """Open a subscription. Raises `Unknown` for a task nobody knows, `LogUnavailable` if Redis is away."""
        key = (stream, start.all_attempts)
        watch = self._watches.get(key) or self._watch(key)
        watch.users += 1
        try:
            await asyncio.shield(watch.ready)  # one that leaves must not stop it for the others
            subscription = await self._first_look(watch, start, key)
        except BaseException:
            self._leave(key, watch)
            raise
        watch.subscriptions.add(subscription)
        if self._is_draining:
            subscription.drain()
        return subscription

    def drain(self) -> None:
        """Let every subscription end, also those still to come."""
        self._is_draining = True
        for watch in self._watches.values():
            for subscription in watch.subscriptions:
                subscription.drain()
            watch.tail.wake()

    def _watch(self, key: tuple[str, bool]) -> _Watch:
        """Listen before anybody looks: what is appended after a look then rings."""
        stream, all_attempts = key
        tail = Tail(self._log, stream, all_attempts=all_attempts, window_bytes=self._options.window_bytes)
        listening = self._doorbells.watch(self._log.keys.bell(stream), lambda payload: self._ring(stream, payload))
        ready = asyncio.create_task(listening, name=f"watch {stream}")
        self._watches[key] = watch = _Watch(tail, set(), ready)
        return watch

    async def _first_look(self, watch: _Watch, start: Start, key: tuple[str, bool]) -> Subscription:
        tail = watch.tail
        cursor = await first_cursor(tail, start, starts_at_end=starts_at_end(tail.stream))
        verdict = await tail.look(cursor)
        deadline = monotonic() + self._options.lease_seconds * _UNKNOWN_PATIENCE
        while verdict.state is State.GONE and cursor != ORIGIN and monotonic() < deadline:
            await tail.changed_since(tail.version, timeout_seconds=_UNKNOWN_POLL_SECONDS)
            verdict = await tail.look(cursor)
        if verdict.state is State.GONE:
            raise Unknown(f"There is no stream {tail.stream!r}: no such task, or it was deleted and has expired.")
        subscription = Subscription(tail, start, cursor=cursor, first=verdict, pace=self._pace)
        subscription.on_close = lambda: self._close(key, watch, subscription)
        return subscription

    def _close(self, key: tuple[str, bool], watch: _Watch, subscription: Subscription) -> None:
        watch.subscriptions.discard(subscription)
        self._leave(key, watch)

    def _leave(self, key: tuple[str, bool], watch: _Watch) -> None:
        watch.users -= 1
        if watch.users:
            return
        self._watches.pop(key, None)
        stream = key[0]
        if (stream, not key[1]) not in self._watches:
            leaving = asyncio.ensure_future(self._unwatch(stream))
            self._unwatching.add(leaving)
            leaving.add_done_callback(self._unwatching.discard)

    async def _unwatch(self, stream: str) -> None:
        if not any(watched == stream for watched, _ in self._watches):
            await self._doorbells.unwatch(self._log.keys.bell(stream))

    def _ring(self, stream: str, payload: bytes) -> None:
        for all_attempts in (False, True):
            watch = self._watches.get((stream, all_attempts))
            if watch:
                watch.tail.ring(payload)

    def _look_everywhere(self) -> None:
        """After a reconnect nobody knows what was missed."""
        for watch in self._watches.values():
            watch.tail.fall_behind()

    async def _sweep(self) -> None:
        tails = [watch.tail for watch in list(self._watches.values())]
        for start in range(0, len(tails), _SWEEP_BATCH):
            await self._sweep_group(tails[start : start + _SWEEP_BATCH])

    async def _sweep_group(self, tails: Iterable[Tail]) -> None:
        known = [(tail, tail.window.top) for tail in tails]
        settled = [(tail, top) for tail, top in known if top is not None]
        intact = await self._log.ends_at([(tail.stream, top) for tail, top in settled])
        for (tail, top), is_intact in zip(settled, intact, strict=True):
            # A task whose log is not there may wait to run, or may have ended: only its record tells.
            is_settled = is_intact and not (tail.is_task and top == ORIGIN)
            if not is_settled and tail.window.top == top:
                tail.fall_behind()
        for tail, top in known:
            if top is None:
                tail.wake()
