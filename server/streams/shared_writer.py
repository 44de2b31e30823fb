"""A writer of a shared stream: many may write it, the script hands the ids out.

Owns that what was taken in is stored once and in order, however often it has to be sent, or is given up with an error
that says so. Knows nothing of tasks, leases or who calls it.

Theory of operation
-------------------
1. A writer has a token of its own and numbers its batches. The script keeps the token's newest number, in the step that
   appends; a batch that it has seen is answered with the ids it got then.
2. A batch is sent until it is answered, with the same events under the same number. Events that come meanwhile wait for
   the next one. So Redis has to remember one number for each writer, not one token for each batch.
3. A batch of a lower number than the newest comes late, from a connection that was given up. It stores nothing.
4. The token expires. Whoever sends a batch again after that would store it twice, so the writer gives up before: when
   for `patience_seconds` nothing was answered, or since a batch was first sent, by a clock that counts sleep. Whether
   that batch is stored is unknown then, and the error says so.
5. A failover that loses the tail loses the token with it, for they share a slot: sending again stores again, above
   everything the writer was told of (`known`), and readers who had seen the lost ids are told the gap.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from server.streams import calls
from server.streams.calls import Call, Lifetimes, Reply
from server.streams.errors import LogUnavailable, StreamClosed
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lane_writer import LaneWriter
from server.streams.lanes import Lanes
from server.streams.lease import boot_seconds
from server.streams.log import closed, deleted, exhausted
from server.streams.outbox import first_of

#: By so much the token outlives the writer's patience: a call under way may take seconds to be answered.
_TOKEN_SPARE_MS: Final = 60_000


def _nothing() -> None:
    pass


class _Held:
    """Events that are not known to be stored, oldest first."""

    def __init__(self) -> None:
        self.drafts: deque[Draft] = deque()
        self.unsent_bytes = 0

    @property
    def unsent(self) -> int:
        return len(self.drafts)


class SharedWriter(LaneWriter):
    """Appends to one shared stream. Methods belong to the lane's event loop.

    Ordering: events of this writer are stored in the order of the calls; those of others may lie between. Cancelling a
    caller of `flush` loses nothing. Raises `StreamClosed` once the stream has its terminal event or `close` was called,
    `LogUnavailable` once Redis stayed away for longer than the patience; either is final.
    """

    def __init__(
        self,
        lane: Lane | Lanes,
        keys: Keys,
        stream: str,
        *,
        lifetimes: Lifetimes,
        max_events: int,
        max_bytes: int = 0,
        patience_seconds: float,
        clock: Callable[[], float] = boot_seconds,
        on_generation: Callable[[], None] = _nothing,
    ) -> None:
        """`on_generation` is called when a batch was stored that began one, and so perhaps the stream."""
        self._box = _Held()
        title, key = f"stream {stream}", keys.log(stream)
        super().__init__(lane, self._box, title=title, key=key, patience_seconds=patience_seconds)
        self._keys = keys
        self._stream = stream
        self._lifetimes = lifetimes
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._clock = clock
        self._on_generation = on_generation
        self._token = secrets.token_hex(8)
        #: The batch that is sent until it is answered; empty between batches.
        self._batch: list[Draft] = []
        self._batch_number = 0
        self._first_sent_at = 0.0
        self._is_ended = False
        #: How many events were taken in and stored, ever.
        self._taken = self._stored = 0
        self._last_id: EventId | None = None
        self._reason = "Redis did not answer."

    @property
    def last_id(self) -> EventId | None:
        """The id of the last event of this writer that is known to be stored."""
        return self._last_id

    @property
    def has_room(self) -> bool:
        """Whether `emit` would not wait, nor fail. Any thread may ask; it is an estimate there."""
        return not (self._failure or self._is_ended or self._in_line or self._is_full)

    def put(self, draft: Draft) -> None:
        """Take an event in although there may be no room: for whoever keeps a bound."""
        self._take_in(draft)
        if not self._is_busy:
            self._enlist()

    async def emit(self, draft: Draft) -> None:
        """Take an event in; waits only while too much is unsent."""
        if self._in_line or self._is_full:
            await self._wait_for_room()
        self.put(draft)
        if self._is_turn_over():
            await asyncio.sleep(0)

    async def end(self, draft: Draft) -> EventId:
        """Append the terminal event, behind everything that was taken in, and return its id once it is stored."""
        if self._in_line or self._is_full:
            await self._wait_for_room()
        self._take_in(draft)
        self._is_ended = True
        await self.flush()
        if self._last_id is None:  # the terminal event itself is stored
            raise AssertionError
        return self._last_id

    async def flush(self) -> None:
        """Wait until everything taken in so far is stored."""
        last = self._taken
        while self._stored < last:
            self._enlist(hurry=True)
            await self._settled()
        if not self._is_ended:
            self._check()

    def close(self) -> None:
        """Take nothing more in. What is not stored yet is given up: `flush` before."""
        self._let_go()
        self._close(StreamClosed(f"The handle to the stream {self._stream!r} is closed. Open it again to write."))

    def _take_in(self, draft: Draft) -> None:
        self._check()
        if self._is_ended:
            raise closed(self._stream)
        self._box.drafts.append(draft)
        self._box.unsent_bytes += len(draft.data)
        self._lane.unsent_bytes += len(draft.data)
        self._taken += 1

    @property
    def _has_more(self) -> bool:
        return bool(self._box.drafts)

    def _next_call(self) -> Call[Any] | None:
        if not self._batch:
            self._batch = first_of(self._box.drafts, self._box.unsent_bytes)
            self._batch_number += 1
            self._first_sent_at = self._clock()
        elif self._clock() - self._first_sent_at > self._patience_seconds:  # the token may have expired
            self._give_up()
            return None
        return calls.publish(
            self._keys,
            self._stream,
            self._batch,
            token=self._token,
            token_ms=int(self._patience_seconds * 1000) + _TOKEN_SPARE_MS,
            # Drawn for each try: after a failover the same number would make the lost generation once more.
            entropy=secrets.randbelow(1000),
            known=self._last_id,
            lifetimes=self._lifetimes,
            max_events=self._max_events,
            max_bytes=self._max_bytes,
            is_terminal=self._is_ended and len(self._batch) == len(self._box.drafts),
            number=self._batch_number,
        )

    def _heard(self, answer: Reply) -> None:
        if answer.outcome == "closed":
            self._fail(closed(self._stream))
        elif answer.outcome in {"stored", "repeated"}:
            self._note_stored(answer.id)
        elif answer.outcome == "deleted":
            self._fail(deleted(self._stream))
        else:
            self._fail(exhausted(self._stream))
        self._wake_all()

    def failed(self, error: LogUnavailable) -> None:
        self._reason = str(error)
        super().failed(error)

    def _note_stored(self, first: EventId) -> None:
        batch, self._batch = self._batch, []
        size = 0
        for _ in batch:
            size += len(self._box.drafts.popleft().data)
        self._box.unsent_bytes -= size
        self._lane.unsent_bytes -= size
        self._stored += len(batch)
        self._last_id = EventId(first.generation, first.sequence + len(batch) - 1)
        if first.sequence == 0:
            self._on_generation()

    def _lose_patience(self) -> None:
        self._give_up()

    def _give_up(self) -> None:
        held, sent = len(self._box.drafts), len(self._batch)
        why = self._lane.trouble or self._reason
        unknown = f" Whether the first {sent} of them are stored is unknown." if sent else ""
        self._fail(
            LogUnavailable(
                f"{held} event(s) of the stream {self._stream!r} are given up: for {self._patience_seconds:g} s Redis "
                f"stored nothing. {why}{unknown} Open the stream again to go on; `patience_seconds` says how "
                "long to wait."
            )
        )

    def _fail(self, failure: Exception) -> None:
        super()._fail(failure)
        self._let_go()

    def _let_go(self) -> None:
        self._lane.unsent_bytes -= self._box.unsent_bytes
        self._box.drafts.clear()
        self._box.unsent_bytes = 0
