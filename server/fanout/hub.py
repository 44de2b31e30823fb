"""The hub: every stream this process watches, and the subscribers of each.

Owns the map from stream to tail, its doorbell subscription, and the sweep: every few seconds the end of each watched
log is compared with the window's, because a ring may be lost and a log may go back. A process holds nothing that
cannot be lost: an empty hub serves any cursor from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from server.fanout.clock import Clock
from server.fanout.continuity import State
from server.fanout.delivery import Delivery
from server.fanout.farewell import send_away
from server.fanout.life import LifeWatch
from server.fanout.pasts import Pasts
from server.fanout.start import USUAL, Manner, Pace, Start, first_cursor
from server.fanout.strand import Strand
from server.fanout.subscription import Subscription
from server.fanout.tail import Tail
from server.streams.cancelling import cancel_all
from server.streams.doorbell import Doorbells
from server.streams.errors import LogRefused, LogUnavailable, Unknown
from server.streams.ids import ORIGIN
from server.streams.log import Log
from server.streams.names import starts_at_end

_log = logging.getLogger(__name__)

_SWEEP_BATCH: Final = 200
#: How exactly heartbeats and ages are kept: both are about seconds.
_TICK_SECONDS: Final = 0.25
#: Of a drain's time. The rest is for readers that are slow to take their last block.
_SPREAD: Final = 0.8
_DRAIN_POLL_SECONDS: Final = 0.05
#: What a reader has for its last block when there is no time.
_URGENT_SECONDS: Final = 1.0
_NEVER: Final = float("inf")
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
    stall_seconds: float = 60.0
    #: How long Redis may be away before readers are sent to another replica.
    outage_seconds: float = 15.0
    #: How long readers that are sent away at a stop, or in an outage, may take to leave.
    drain_seconds: float = 10.0
    #: How long at least a reader with a cursor waits for a task that is unknown. The worker of a task that has ended
    #: looks after it once more, three seconds after the end, and writes it back only then.
    unknown_seconds: float = 4.0
    window_bytes: int = 262_144


class _Watch:
    """A tail and how many use it; the home of its subscriptions."""

    __slots__ = ("_hub", "_pasts", "key", "ready", "tail", "users")

    def __init__(self, hub: Hub, key: tuple[str, bool], tail: Tail, ready: asyncio.Future[None]) -> None:
        self._hub = hub
        self.key = key
        self.tail = tail
        #: Done once the doorbell is subscribed (or was given up on).
        self.ready = ready
        self.users = 0
        self._pasts: Pasts | None = None

    @property
    def pasts(self) -> Pasts:
        """What readers that ask for compaction share; made for the first one, since most streams have none."""
        if self._pasts is None:
            self._pasts = Pasts(self.tail)
        return self._pasts

    def expire(self) -> None:
        self.tail.expire()
        if self._pasts is not None:
            self._pasts.expire()

    def attached(self) -> None:
        self._hub.attached(self)

    def left(self) -> None:
        self._hub.left(self)


class Hub:
    """Hands subscribers the frames of the streams they follow. Belongs to one event loop."""

    def __init__(self, log: Log, doorbells: Doorbells, *, options: HubOptions) -> None:
        self._log = log
        self._doorbells = doorbells
        self._options = options
        self._pace = Pace(
            heartbeat=options.heartbeat_seconds,
            max_age=options.max_stream_seconds,
            lease=options.lease_seconds,
            stall=options.stall_seconds,
        )
        self._watches: dict[tuple[str, bool], _Watch] = {}
        self._subscriptions: set[Subscription] = set()
        #: Streams of which others were told that somebody follows.
        self._followed: set[str] = set()
        self._delivery = Delivery()
        self._clock = Clock(self._subscriptions, tick_seconds=min(_TICK_SECONDS, options.heartbeat_seconds / 4))
        self._life = LifeWatch(
            log,
            lambda: [watch.tail for watch in self._watches.values() if watch.tail.is_task],
            lease_seconds=options.lease_seconds,
            may_judge=lambda: doorbells.connected_seconds >= options.lease_seconds,
        )
        self._is_draining = False
        self._swept_at = monotonic()
        #: Called when the first reader of a task that is cancelled without readers came, and when the last left.
        self.on_followed: Callable[[str], None] = lambda _: None
        self.on_unfollowed: Callable[[str], None] = lambda _: None
        #: Called after each (re)connection of the doorbell.
        self.on_reconnect: Callable[[], None] = lambda: None
        doorbells.on_connect = self._look_everywhere

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscriptions)

    @property
    def watched(self) -> int:
        """How many streams are watched."""
        return len({stream for stream, _ in self._watches})

    @property
    def is_live(self) -> bool:
        """Whether new events reach this process: the doorbell is connected and the sweep keeps its time."""
        age = monotonic() - self._swept_at
        return self._doorbells.is_connected and age < 3 * self._options.sweep_seconds

    @property
    def is_cut_off(self) -> bool:
        """Whether Redis has been away for so long that readers are better off elsewhere."""
        return monotonic() - self._swept_at > self._options.outage_seconds + self._options.sweep_seconds

    @property
    def may_judge_leases(self) -> bool:
        """Whether an expired lease may be judged: this process has been in touch with Redis for a lease."""
        return self._life.may_judge

    async def run(self) -> None:
        """Sweep, and look after the writers of watched tasks, for ever."""
        loops = [
            asyncio.create_task(self._keep_sweeping(), name="sweep"),
            asyncio.create_task(self._life.run(), name="life of writers"),
            asyncio.create_task(self._keep_readers_connected(), name="outages"),
        ]
        try:
            await asyncio.gather(*loops)
        finally:
            await cancel_all(loops)

    async def _keep_sweeping(self) -> None:
        is_away = False
        while True:
            await asyncio.sleep(self._options.sweep_seconds)
            try:
                await self._sweep()
                self._swept_at = monotonic()
                if is_away:
                    _log.debug("Watched streams are looked at again")
                is_away = False
            except LogUnavailable as error:
                if not is_away:
                    # While Redis is away the process says so itself, once (`server.redis_checks`).
                    level = logging.WARNING if isinstance(error, LogRefused) else logging.DEBUG
                    _log.log(level, "Watched streams cannot be looked at: %s", error)
                is_away = True

    async def _keep_readers_connected(self) -> None:
        """Send readers away while this process can tell them nothing: another replica may be better off."""
        told = False
        while True:
            await asyncio.sleep(self._options.sweep_seconds / 2)
            told = told if self.is_cut_off else False
            if self.is_cut_off and self._subscriptions and not self._is_draining:
                if not told:
                    count = len(self._subscriptions)
                    _log.warning("Redis has been away for long: %d reader(s) are asked to come back elsewhere", count)
                told = True
                await send_away(
                    tuple(self._subscriptions),
                    within_seconds=self._options.drain_seconds,
                    goes_on=lambda: self.is_cut_off and not self._is_draining,
                )

    async def subscribe(self, stream: str, start: Start, manner: Manner = USUAL) -> Subscription:
        """Open a subscription. Raises `Unknown` for a task nobody knows, `LogUnavailable` if Redis is away."""
        return self._subscription((await self._open(stream, start, manner),), manner)

    async def subscribe_all(self, starts: Mapping[str, Start], manner: Manner) -> Subscription:
        """Open one subscription of several streams, each with its place to begin at. Raises as `subscribe` does.

        A task that the reader has a cursor of and nobody knows any more is no reason to keep it from the others: it is
        told as a gap, and ends. With nothing else left to follow it is `Unknown` as ever.
        """
        strands = await self._open_all(starts, manner, is_patient=False)
        if any(strand.is_gone for strand in strands) and all(strand.is_gone or strand.is_over for strand in strands):
            _leave_all(strands)
            strands = await self._open_all(starts, manner, is_patient=True)
        return self._subscription(strands, manner)

    def _subscription(self, strands: Sequence[Strand], manner: Manner) -> Subscription:
        subscription = Subscription(strands, manner, pace=self._pace, keeper=self)
        self._subscriptions.add(subscription)
        self._clock.start()
        if self._is_draining:
            subscription.drain()
        return subscription

    def attached(self, watch: _Watch) -> None:
        """Told by each subscription that a reader takes: one that only asked, or was refused, follows nothing."""
        stream = watch.tail.stream
        if watch.tail.ends_unfollowed and stream not in self._followed:
            self._followed.add(stream)
            self.on_followed(stream)

    def left(self, watch: _Watch) -> None:
        """Told once for each strand that is over."""
        self._leave(watch)

    def closed(self, subscription: Subscription) -> None:
        """Told once by each subscription that is over."""
        self._subscriptions.discard(subscription)

    async def drain(self, *, is_urgent: Callable[[], bool] = lambda: False) -> int:
        """End every subscription, also those still to come, spread over the time there is; how many had to be cut.

        `is_urgent` is asked again and again: once it says so, all end at once.
        """
        self._is_draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.drain_seconds
        spread = self._options.drain_seconds * _SPREAD
        await send_away(tuple(self._subscriptions), within_seconds=spread, is_urgent=is_urgent)
        urgent_deadline = _NEVER
        # Those that are left have not taken their last block yet.
        while self._subscriptions and loop.time() < min(deadline, urgent_deadline):
            if is_urgent():
                urgent_deadline = min(urgent_deadline, loop.time() + _URGENT_SECONDS)
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        left = tuple(self._subscriptions)
        for subscription in left:
            subscription.cut()
        return len(left)

    def _watch(self, key: tuple[str, bool]) -> _Watch:
        """Listen before anybody looks: what is appended after a look then rings."""
        stream, all_attempts = key
        tail = Tail(
            self._log,
            stream,
            all_attempts=all_attempts,
            window_bytes=self._options.window_bytes,
            lease_seconds=self._options.lease_seconds,
            on_wake=self._delivery.wake,
        )
        ready = self._doorbells.watch(self._log.keys.bell(stream), lambda payload: self._ring(stream, payload))
        self._watches[key] = watch = _Watch(self, key, tail, ready)
        return watch

    async def _open_all(self, starts: Mapping[str, Start], manner: Manner, *, is_patient: bool) -> tuple[Strand, ...]:
        opening = [
            asyncio.create_task(self._open(stream, start, manner, is_patient=is_patient), name=f"open {stream}")
            for stream, start in starts.items()
        ]
        try:
            return tuple(await asyncio.gather(*opening))
        except BaseException:
            await cancel_all(opening)
            _leave_all(done.result() for done in opening if not done.cancelled() and done.exception() is None)
            raise

    async def _open(self, stream: str, start: Start, manner: Manner, *, is_patient: bool = True) -> Strand:
        key = (stream, start.all_attempts)
        watch = self._watches.get(key) or self._watch(key)
        watch.users += 1
        try:
            await asyncio.shield(watch.ready)  # one that leaves must not stop it for the others
            return await self._first_look(watch, start, manner, is_patient=is_patient)
        except BaseException:
            self._leave(watch)
            raise

    async def _first_look(self, watch: _Watch, start: Start, manner: Manner, *, is_patient: bool) -> Strand:
        tail = watch.tail
        from_end = starts_at_end(tail.stream)
        cursor = await first_cursor(tail, start, starts_at_end=from_end, is_live=self._is_live(tail))
        block = tail.block_after(cursor) if self._is_live(tail) else None
        if block is not None and not (start.is_compact and block.frames):
            # The stream is watched, goes on, and the window knows the cursor: the log could say no more.
            return Strand(tail, cursor=cursor, first=None, lease_seconds=self._pace.lease, home=watch)
        look = await tail.looked(cursor)
        patience = max(self._options.lease_seconds * _UNKNOWN_PATIENCE, self._options.unknown_seconds)
        deadline = monotonic() + patience * is_patient
        while look.verdict.state is State.GONE and cursor != ORIGIN and monotonic() < deadline:
            await asyncio.sleep(_UNKNOWN_POLL_SECONDS)
            look = await tail.looked(cursor)
        if look.verdict.state is State.GONE and (is_patient or start.cursor is None):
            raise Unknown(f"There is no stream {tail.stream!r}: no such task, or it was deleted and has expired.")
        past = None
        if start.is_compact and look.verdict.events:
            past = await watch.pasts.behind(cursor, types=manner.types)
        if past is not None:
            look = await past.looked(cursor)
        return Strand(tail, cursor=cursor, first=look, lease_seconds=self._pace.lease, home=watch, past=past)

    def _is_live(self, tail: Tail) -> bool:
        """Whether the window tells what becomes of the stream, which has not ended."""
        return self._doorbells.is_connected and tail.is_current and not tail.window.is_ended

    def _leave(self, watch: _Watch) -> None:
        watch.users -= 1
        if watch.users:
            return
        self._watches.pop(watch.key, None)
        stream, all_attempts = watch.key
        if (stream, not all_attempts) not in self._watches:
            self._doorbells.unwatch(self._log.keys.bell(stream))
            if stream in self._followed:
                self._followed.discard(stream)
                self.on_unfollowed(stream)

    def _ring(self, stream: str, payload: bytes) -> None:
        for all_attempts in (False, True):
            watch = self._watches.get((stream, all_attempts))
            if watch:
                watch.tail.ring(payload)

    def _look_everywhere(self) -> None:
        """After a reconnect nobody knows what was missed."""
        for watch in self._watches.values():
            watch.tail.fall_behind()
        self.on_reconnect()

    async def _sweep(self) -> None:
        watches = list(self._watches.values())
        tails = [watch.tail for watch in watches]
        silent = [tail for tail in tails if not tail.has_rung]
        for watch in watches:
            watch.tail.has_rung = False
            watch.expire()
        for start in range(0, len(silent), _SWEEP_BATCH):
            await self._sweep_group(silent[start : start + _SWEEP_BATCH])

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


def _leave_all(strands: Iterable[Strand]) -> None:
    for strand in strands:
        strand.leave()
