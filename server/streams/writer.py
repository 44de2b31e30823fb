"""The writer of a task's stream: from `emit` to the log, through lost replies, lost data and lost leases.

How it waits, and shares a lane with others, is `LaneWriter`'s. What replies mean is decided by `Outbox`; a `Fenced`
writer never writes again. One that Redis lets wait for too long goes on trying, and says so: what it holds may be
stored yet, and the end of the attempt behind it. Of an ended task only what cannot have expired yet counts as lost.
Knows nothing of how the task is run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from server.streams import calls
from server.streams.calls import CHECKS_PER_BUDGET, Batch, Call, Expiry, Lifetimes, Renewal, Reply, WriterCalls
from server.streams.connections import AsyncClient
from server.streams.errors import Fenced, LogRefused, LogUnavailable
from server.streams.event import ATTEMPT, CHECKPOINT, Draft
from server.streams.ids import ORIGIN, EventId, parse_event_id
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lane_writer import LaneWriter
from server.streams.lanes import Lanes, open_lane
from server.streams.lease import Lease, boot_seconds
from server.streams.outbox import Conclusion, Outbox
from server.streams.records import TERMINAL_TYPES, Status, TaskRecord

_log = logging.getLogger(__name__)

#: Redis trims whole nodes of a hundred entries, so asking it more often than about once a node is for nothing.
_EVENTS_PER_TRIM: Final = 64
_REFRESH_SECONDS: Final = 30.0
#: Decided by the scripts or by other processes: a writer must not write its old copy back.
_NOT_OURS: Final = frozenset(
    {"cancel", "lease_until", "owner", "updated_at", "last_id", "queue_entry", "unfollowed_since"}
)


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """What every writer of a worker shares."""

    lifetimes: Lifetimes
    #: Newest events a log keeps (about: whole nodes are trimmed); 0 for no limit.
    max_events: int
    lease_ms: int
    #: Bytes of Redis' memory that a log may take (about: whole nodes are trimmed, now and then); 0 for no limit.
    max_bytes: int = 0
    #: For how long Redis may store nothing before `on_unstored` is called.
    patience_seconds: float = 300.0


class StreamWriter(LaneWriter):
    """Writes one generation of one task. Use as an async context manager; methods belong to its event loop.

    Ordering: events are stored in the order of `emit`. Cancelling a caller of `emit` or `flush` loses nothing that
    was taken in. Raises `Fenced` from every method once another owner is known.
    """

    def __init__(
        self,
        client: AsyncClient,
        keys: Keys,
        record: TaskRecord,
        *,
        nonce: str,
        lease: Lease,
        options: WriterOptions,
        lane: Lane | Lanes | None = None,
    ) -> None:
        """`lane` is what it shares with other writers; without, it has one of its own, connected as `client` is."""
        outbox = Outbox(record.generation, Draft(ATTEMPT, record.values["opening"]))
        super().__init__(
            lane or open_lane(client),
            outbox,
            title=f"task {record.id}",
            key=keys.record(record.id),
            patience_seconds=options.patience_seconds,
        )
        self._loop = asyncio.get_running_loop()
        self._keys = keys
        self._task_id = record.id
        self._nonce = nonce
        self._lease = lease
        self._options = options
        self._shared_lane = lane
        self._calls = WriterCalls(
            keys,
            record.id,
            generation=record.generation,
            nonce=nonce,
            lease_ms=options.lease_ms,
            lifetimes=options.lifetimes,
        )
        self._outbox = outbox
        #: The writer's copy of the record, from which a lost one is written back.
        self._values = {name: value for name, value in record.values.items() if name not in _NOT_OURS}
        #: Fields to store with the next batch.
        self._changed: dict[str, str] = {}
        #: Fields were changed so often; the call under way has what changed up to `_sent_changes`.
        self._changes = self._sent_changes = self._stored_changes = 0
        self._is_probe_due = False
        self._is_repair_due = False
        #: Known once the end was asked for; and whether the log may be gone by it, so that only the record can be lost.
        self._expiry: Expiry | None = None
        self._is_log_over = False
        self._refreshed_at = boot_seconds()
        #: What was stored since the log was last measured, and whether it ever was by this attempt.
        self._unmeasured_bytes = 0
        self._is_measured = False
        #: Takes the answer to the call under way, and what that call was about.
        self._take: Callable[[Any], None] = self._appended
        self._sent = Batch(record.generation, 0, ())
        self._sent_values: Mapping[str, str] = {}
        self._asked_at = 0.0
        #: Called once a repair was stored: indexes of other slots may be lost too.
        self.on_repair: Callable[[], None] | None = None
        #: Called once when the writer is fenced, whoever found out: the task function has to stop.
        self.on_fence: Callable[[str], None] | None = None
        #: Called once if Redis refuses for good what this writer asks: nothing of it can be written any more.
        self.on_refusal: Callable[[LogRefused], None] | None = None
        #: Called once when for the patience nothing was stored. The writer goes on trying.
        self.on_unstored: Callable[[], None] | None = None

    @property
    def generation(self) -> int:
        return self._outbox.generation

    @property
    def unstored_seconds(self) -> float:
        """For how long Redis has stored nothing although there is something to store; 0 where all is. From any
        thread.
        """
        return self._loop.time() - self._quiet_since if self._outbox.unsent and self._is_busy else 0.0

    @property
    def stored(self) -> EventId:
        """The last id known to be in the log."""
        return self._outbox.stored

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close(Fenced(f"The writer of task {self._task_id} is closed."))
        if self._shared_lane is None:
            await self._lane.aclose()

    async def emit(self, draft: Draft, values: Mapping[str, str] | None = None) -> EventId:
        """Take an event in and return its id; waits only while too much is unsent.

        `values` are fields of the record to change in the same step as the append.
        """
        if self._in_line or self._is_full:
            await self._wait_for_room()
        found = self._take_in(draft, values or {})
        if not self._is_busy:
            self._enlist()
        if self._is_turn_over():  # only now: whoever is cancelled here has been taken in
            await asyncio.sleep(0)
        return found

    async def checkpoint(self, state: str) -> EventId:
        """Append an event up to which everything stands; with it the record gets the state to go on from, JSON.

        Returns once both are stored.
        """
        if self._in_line or self._is_full:
            await self._wait_for_room()
        # Not by `emit`, which lets others run behind the event: the state belongs to the same step.
        found = self._take_in(Draft(CHECKPOINT, "{}"), {"checkpoint": state})
        self._changed["resume_from"] = str(found)
        await self._flush(for_function=True)
        return found

    def take_no_more(self, reason: BaseException) -> None:
        """Have whoever waits in `emit` or `checkpoint` raise `reason`, now and from now on.

        What was taken in stays, and `flush` and `finish` go on: a function is stopped, and its end is still to be
        written.
        """
        self._refrain = reason
        self._wake_all()

    async def flush(self) -> None:
        """Wait until everything taken in so far is stored, whatever others emit meanwhile."""
        await self._flush(for_function=False)

    async def _flush(self, *, for_function: bool) -> None:
        last, changes = self._outbox.last_id, self._changes
        while self._outbox.stored < last or (self._changed and self._stored_changes < changes):
            if for_function and self._refrain:
                raise self._refrain
            self._enlist(hurry=True)
            await self._settled()
        self._check()

    async def finish(self, status: Status, data: str, values: Mapping[str, str] | None = None) -> EventId:
        """Append the terminal event and end the record in one step. `data` is the event's data, JSON."""
        await self.flush()
        self._change({**(values or {}), "status": status.value, "end": data})
        self._outbox.add(Draft(TERMINAL_TYPES[status], data), is_terminal=True)
        self._lane.unsent_bytes += len(data)
        await self.flush()
        return self._outbox.stored

    async def verify(self) -> None:
        """Ask whether the log still holds what was stored, and repair it if not."""
        self._is_probe_due = True
        while self._is_probe_due:
            self._enlist(hurry=True)
            await self._settled()
        self._check()

    def probe(self) -> None:
        """Ask for the same without waiting; for a renewal that found the log or the record short."""
        self._is_probe_due = True
        self._enlist(hurry=True)

    def fence(self, reason: str) -> None:
        """Stop for good, because of what somebody else found."""
        if self._failure is None:
            self._fail(Fenced(reason))
            if self.on_fence:
                self.on_fence(reason)

    def _lose_patience(self) -> None:
        if self.on_unstored:
            self.on_unstored()

    def _take_in(self, draft: Draft, values: Mapping[str, str]) -> EventId:
        self._check()
        found = self._outbox.add(draft)
        self._lane.unsent_bytes += len(draft.data)
        if values:
            self._change(values)
        return found

    def _change(self, values: Mapping[str, str]) -> None:
        self._changed.update(values)
        self._changes += 1

    # What the lane calls, and what it needs to know.

    def _next_call(self) -> Call[Any]:
        # After the lease ran out by our own clock somebody else may run the task: ask before writing.
        if not self._lease.is_fresh and not (self._outbox.is_closed and not self._outbox.unsent):
            return self._renewal()
        return self._repair() if self._is_repair_due else self._append()

    def _heard(self, answer: Any) -> None:
        self._take(answer)

    def failed(self, error: LogUnavailable) -> None:
        self._is_repair_due = False  # whether it is still needed, the next append tells
        super().failed(error)
        if isinstance(error, LogRefused) and self._failure is error and self.on_refusal:
            self.on_refusal(error)

    @property
    def _has_more(self) -> bool:
        return bool(self._outbox.unsent or self._changed or self._is_probe_due or self._is_repair_due)

    # Calls and what their answers mean.

    def _append(self) -> Call[Reply]:
        batch = self._sent = self._outbox.next_batch()
        self._sent_values = self._fields_for(batch) if self._changed else {}
        is_all = len(self._sent_values) == len(self._changed)
        self._sent_changes = self._changes if is_all else self._stored_changes
        if batch.is_terminal and self._expiry is None:  # a try whose reply was lost may have been the one
            is_dead = "dead" in self._sent_values
            self._expiry = self._options.lifetimes.expiry(asked_at=boot_seconds(), is_dead=is_dead)
        self._take = self._appended
        before = batch.first_sequence - 1
        trims = (before + len(batch.drafts)) // _EVENTS_PER_TRIM > before // _EVENTS_PER_TRIM
        return self._calls.append(
            batch,
            expected=self._outbox.stored,
            values=self._sent_values,
            refreshes=self._is_refresh_due(),
            trim_to=self._options.max_events if trims else 0,
            trim_to_bytes=self._options.max_bytes if self._is_measuring_due(trims=trims) else 0,
        )

    def _fields_for(self, batch: Batch) -> dict[str, str]:
        """What may change in the step that stores the batch."""
        if self._outbox.is_closed and not batch.is_terminal:
            return {}
        changed = dict(self._changed)
        resume_from = changed.get("resume_from")
        last = EventId(batch.generation, batch.first_sequence + len(batch.drafts) - 1)
        if resume_from and parse_event_id(resume_from) > last:
            # Its event is in a later batch: a record that names an event which the log lacks would void what stands.
            del changed["resume_from"]
            changed.pop("checkpoint", None)  # stored already if the one before had the same state
        return changed

    def _appended(self, reply: Reply) -> None:
        outbox, batch = self._outbox, self._sent
        unsent_bytes = outbox.unsent_bytes
        conclusion = outbox.conclude(batch, reply)
        self._lane.unsent_bytes -= unsent_bytes - outbox.unsent_bytes
        self._unmeasured_bytes += unsent_bytes - outbox.unsent_bytes
        if conclusion is Conclusion.STORED:
            # After "differs" the fields are sent once more: they may belong to a part that was not stored. Not so with
            # the terminal event, which they share a step with, and behind which nothing can be sent.
            if reply.outcome != "differs" or (batch.is_terminal and not outbox.unsent):
                self._is_probe_due = False
                if self._sent_values:
                    self._note_values(self._sent_values)
        elif conclusion is Conclusion.REPAIR:
            self._suspect_loss(reply.id)
        else:
            self.fence(
                f"The log of task {self._task_id} answered {reply.outcome!r} at {reply.id}: another run owns it."
            )
        self._wake_all()

    def _note_values(self, stored: Mapping[str, str]) -> None:
        self._values.update(stored)
        self._stored_changes = self._sent_changes
        self._changed = {name: value for name, value in self._changed.items() if stored.get(name) != value}

    def _suspect_loss(self, last: EventId) -> None:
        """Log or record is missing, or the log ends at `last`: lost, unless it may have expired since its end.

        A log that is there and lacks its end is no expired one, whatever the time: that would be gone as a whole. A
        failover has set it back, and its record with it, to before either was told when to expire.
        """
        is_set_back = ORIGIN < last < self._outbox.stored
        is_ended = self._outbox.is_closed and not self._outbox.unsent
        expiry = self._expiry if is_ended and not is_set_back else None
        now = boot_seconds()  # later than when Redis looked: what is there past its time is no harm
        self._is_log_over = expiry is not None and now >= expiry.log_at
        self._is_repair_due = expiry is None or now < expiry.record_at
        self._is_probe_due = self._is_probe_due and self._is_repair_due

    def _repair(self) -> Call[Reply]:
        self._take = self._repaired
        values = self._values
        if self._is_log_over:
            batch = Batch(self._outbox.generation, self._outbox.stored.sequence + 1, (), is_terminal=True)
            values = {**values, "last_id": str(self._outbox.stored)}
        else:
            batch = self._outbox.repair_batch()
            _log.warning("Redis lost data of task %s; writing %d events back", self._task_id, len(batch.drafts))
        return self._calls.repair(
            batch,
            values=values,
            highest=self._outbox.last_id.sequence,
            max_events=self._options.max_events,
        )

    def _repaired(self, reply: Reply) -> None:
        self._is_repair_due = False
        # The record is there now, and ended. Where it had its end all is as it should be; where it was set back to
        # before its log began, nothing rings, and readers find the end with their next sweep.
        if self._is_log_over:
            self._is_probe_due = False
            if reply.outcome == "stored":
                _log.warning("Redis lost the record of task %s; it was written back", self._task_id)
        elif reply.outcome != "stored":
            self.fence(f"Task {self._task_id} lost data in Redis, and another run or its end is recorded there.")
        if reply.outcome == "stored" and self.on_repair:
            self.on_repair()
        self._wake_all()

    def _renewal(self) -> Call[Renewal]:
        self._take = self._renewed
        self._asked_at = boot_seconds()
        return calls.renew(
            self._keys,
            self._task_id,
            nonce=self._nonce,
            lease_ms=self._options.lease_ms,
            lifetimes=self._options.lifetimes,
            stored=self._outbox.stored,
        )

    def _renewed(self, renewal: Renewal) -> None:
        if renewal.outcome == "renewed":
            self._lease.renewed(asked_at=self._asked_at)
        else:
            self.fence(f"The lease of task {self._task_id} ran out, and its record answered {renewal.outcome!r}.")

    def _is_measuring_due(self, *, trims: bool) -> bool:
        """Whether to see how large the log is: it takes Redis as long as many appends."""
        due = self._options.max_bytes // CHECKS_PER_BUDGET
        # Once for what earlier attempts left, where there is enough to be worth it.
        if not due or (self._unmeasured_bytes < due and (self._is_measured or not trims)):
            return False
        self._unmeasured_bytes, self._is_measured = 0, True
        return True

    def _is_refresh_due(self) -> bool:
        now = boot_seconds()
        if now - self._refreshed_at <= _REFRESH_SECONDS:
            return False
        self._refreshed_at = now
        return True
