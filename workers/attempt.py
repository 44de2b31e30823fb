"""One run of one task, from its claim to its ack.

Order, the protocol's and not to be changed: terminal event and record in one step, then the news, then, a few seconds
later and after one more look at the log, the queue entry. Invariant: a fenced attempt writes nothing and acks nothing.
While Redis takes nothing the function goes on, until its events fill the writer's buffer or the time for that is over;
what the attempt then fails with is written as soon as Redis takes it. An attempt whose log Redis refuses for good lets
go of its task, whose lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from time import time
from typing import Final, TypeVar

from server.streams import calls
from server.streams.announcements import Announcer
from server.streams.calls import Call, Postponed, Renewal, Reply
from server.streams.connections import AsyncClient, run
from server.streams.dead_letters import DeadLetters
from server.streams.errors import Fenced, InvalidInput, LogRefused, LogUnavailable
from server.streams.jitter import jitter
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lanes import Lanes
from server.streams.lease import Lease, boot_seconds
from server.streams.ready import QueueEntry, ReadyQueue
from server.streams.records import Status, TaskRecord, with_error
from server.streams.tasks import TaskStore
from server.streams.writer import StreamWriter, WriterOptions
from workers.context import Context, Stopped, StopSign
from workers.definition import TaskDefinition
from workers.endings import Failure, of_error, of_result, of_timeout, of_unstored
from workers.failures import TaskError
from workers.invocation import STOP_GRACE_SECONDS, Invocation, Outcome, Raised
from workers.news import AttemptNews
from workers.renewal import Held, LeaseKeeper
from workers.retrying import until_answered

_log = logging.getLogger(__name__)

_Left = TypeVar("_Left", Reply, Postponed)

#: A failover loses about the last second, an append-only file the last two: after that the end is safe, and acked.
_AFTERGLOW_SECONDS: Final = 3.0
#: Handing back must fit between a drain's deadline and the kill that supervisors send after it.
_HAND_BACK_GRACE_SECONDS: Final = 2.0
#: A function that blocks the event loop cannot be ended by its timeout. So much later the task is given away.
_BLOCKED_SECONDS: Final = STOP_GRACE_SECONDS + 5.0


@dataclass(frozen=True, slots=True)
class Shared:
    """What the attempts of one worker share."""

    client: AsyncClient
    keys: Keys
    store: TaskStore
    dead_letters: DeadLetters
    announcer: Announcer
    queue: ReadyQueue
    keeper: LeaseKeeper
    options: WriterOptions
    #: By which the writers append.
    lane: Lane | Lanes
    max_event_bytes: int
    #: Set when the worker drains: then nothing waits that need not.
    draining: asyncio.Event


@dataclass(frozen=True, slots=True)
class Claim:
    """A granted claim: this process is the task's writer while the lease is fresh."""

    entry: QueueEntry
    record: TaskRecord
    nonce: str
    lease: Lease
    #: `LeaseKeeper.asked` before it was asked for.
    asked: int


class _Stop(Enum):
    """Why a function is ended before it comes to its end."""

    CANCEL = "The task was cancelled."
    FENCE = "Another worker runs the task now, or it is over; this attempt may not write any more."
    TIMEOUT = "The attempt took longer than its timeout."
    HAND_BACK = "The worker shuts down; another one will run the task again."
    UNSTORED = "Redis has stored nothing of this attempt for too long."
    REFUSED = "Redis refuses what this attempt writes."


class Attempt:
    """Runs the function of a claimed task. Belongs to the event loop."""

    def __init__(self, shared: Shared, claim: Claim, definition: TaskDefinition) -> None:
        self._shared = shared
        self._claim = claim
        self._definition = definition
        self._task_id = claim.record.id
        self._sign = StopSign()
        self._stop: _Stop | None = None
        #: Set when the function is over or has to stop.
        self._turn = asyncio.Event()
        #: From the terminal event on, what a renewal finds ("ended") is our own doing.
        self._is_ending = False
        self._is_dead_letter = False
        self._restoring: asyncio.Task[None] | None = None
        self._writer = StreamWriter(
            shared.client,
            shared.keys,
            claim.record,
            nonce=claim.nonce,
            lease=claim.lease,
            options=shared.options,
            lane=shared.lane,
        )
        self._writer.on_repair = self._restore_index
        self._writer.on_fence = self._fenced
        self._writer.on_unstored = self._unstored
        self._writer.on_refusal = self._refused
        #: With which Redis refused for good.
        self._refusal: LogRefused | None = None
        self._news = AttemptNews(shared.announcer, claim.record)

    def hand_back(self) -> None:
        """Stop the function and give the task to another worker."""
        self._ask(_Stop.HAND_BACK)

    async def run(self, on_ended: Callable[[], Awaitable[None]]) -> None:
        """Run to the end. `on_ended` is called when no slot is needed any more, before the last look at its log."""
        held = Held(
            self._claim.entry,
            self._claim.nonce,
            self._claim.lease,
            lambda: self._writer.stored,
            self._heed,
            self._overdue_call(),
        )
        async with self._writer, self._news:
            self._shared.keeper.hold(held, asked=self._claim.asked)
            try:
                end = await self._run_function()
                is_told = end is not None and await self._news.became(*end)
            except Fenced as fenced:
                _log.warning("Stopped task %s (%s): %s", self._task_id, self._definition.name, fenced)
                return
            except LogRefused as refusal:
                _log.error(
                    "Let go of task %s (%s), which is tried again when its lease has run out: %s",
                    self._task_id,
                    self._definition.name,
                    refusal,
                )
                return
            finally:
                self._shared.keeper.drop(held)
                self._sign.reason = self._sign.reason or "The attempt has ended; nothing can be written to it."
                await on_ended()
            if end is not None:
                await self._settle(end, is_told=is_told)

    def _overdue_call(self) -> Callable[[float], Call[Renewal] | None]:
        """What gives the task away from another thread, once this one hangs past the timeout."""
        policy = self._definition.policy
        if policy.timeout is None:
            return lambda _: None
        hangs_at = boot_seconds() + policy.timeout + _BLOCKED_SECONDS
        failure = of_timeout(policy)
        nonce, may_retry = self._claim.nonce, failure.is_retryable
        call = calls.overdue(self._shared.keys, self._task_id, nonce=nonce, error=failure.text, may_retry=may_retry)
        # Once the function is over nothing hangs, however long Redis keeps us from saying so.
        return lambda now: None if self._is_ending or now <= hangs_at else call

    async def _run_function(self) -> tuple[Status, str] | None:
        """The end that was written; None if the task was handed back. Raises `Fenced`."""
        try:
            arguments = self._definition.arguments(self._claim.record.values.get("input", "{}"))
        except InvalidInput as error:
            return await self._fail(Failure(str(error), "invalid_input"))
        invocation = Invocation(self._definition, self._context(), arguments, stop=self._sign, on_over=self._turn.set)
        try:
            async with asyncio.timeout(self._definition.policy.timeout):
                await self._turn.wait()
        except TimeoutError:
            self._ask(_Stop.TIMEOUT)
        if self._stop is not None and not invocation.is_over:
            return await self._end_early(invocation, self._stop)
        return await self._conclude(invocation.outcome())

    async def _conclude(self, outcome: Outcome) -> tuple[Status, str] | None:
        if self._refusal:  # whatever the function made of it: nothing can be written any more
            raise self._refusal
        if isinstance(outcome, Raised):
            if isinstance(outcome.error, Fenced):
                raise outcome.error
            # Nobody needs a traceback to a `raise` that says what it means.
            trace = None if isinstance(outcome.error, TaskError) else outcome.error
            return await self._fail(of_error(outcome.error, self._definition.policy), trace=trace)
        found = of_result(outcome.result, max_bytes=self._shared.max_event_bytes)
        if isinstance(found, Failure):
            return await self._fail(found)
        return await self._finish(Status.COMPLETED, found.data)

    async def _fail(self, failure: Failure, *, trace: BaseException | None = None) -> tuple[Status, str] | None:
        """Try again later if the policy says so; otherwise end the task, as a dead letter if somebody should look."""
        record = self._claim.record
        _log.warning("Task %s (%s) failed: %s", self._task_id, self._definition.name, failure.text, exc_info=trace)
        if failure.is_retryable and record.has_attempts_left:
            return await self._postpone(failure)
        if not failure.is_dead_letter:
            return await self._finish(Status.FAILED, failure.data)
        errors = with_error(
            record.values.get("errors", ""),
            attempt=record.attempt,
            error=failure.text,
            code=failure.code,
            at_ms=int(time() * 1000),
        )
        end = await self._finish(Status.FAILED, failure.data, {"dead": "1", "errors": errors})
        with suppress(LogUnavailable):  # whoever acks the entry adds it again
            await self._shared.dead_letters.add(self._task_id)
        return end

    async def _postpone(self, failure: Failure) -> tuple[Status, str] | None:
        """Hand the task back for another attempt after a pause."""
        record = self._claim.record
        delay_ms = int(1000 * self._definition.policy.backoff.seconds(record.spent, jitter.random()))
        call = calls.retry(
            self._shared.keys,
            self._task_id,
            nonce=self._claim.nonce,
            delay_ms=delay_ms,
            error=failure.text,
            code=failure.code,
            lifetimes=self._shared.options.lifetimes,
        )
        postponed = await self._leave(call)
        if postponed.outcome == "cancelled":
            return await self._finish(Status.CANCELLED, "{}")
        not_before = postponed.not_before_ms
        await until_answered(lambda: self._shared.queue.postpone(self._claim.entry, record, not_before_ms=not_before))
        await self._news.became(Status.PENDING)
        _log.info("Task %s (%s) is tried again in %.1f s", self._task_id, self._definition.name, delay_ms / 1000)
        return None

    async def _end_early(self, invocation: Invocation, stop: _Stop) -> tuple[Status, str] | None:
        self._writer.take_no_more(Stopped(stop.value))  # a thread that waits for room cannot be cancelled
        if stop is _Stop.HAND_BACK:
            is_over = await invocation.stop(stop.value, grace_seconds=_HAND_BACK_GRACE_SECONDS)
        else:
            is_over = await invocation.stop(stop.value)
        if not is_over:
            _log.warning(
                "Task %s (%s) was told to stop and goes on; what it emits is refused, its end is not waited for",
                self._task_id,
                self._definition.name,
            )
        if self._refusal:
            raise self._refusal
        if stop is _Stop.TIMEOUT:
            return await self._fail(of_timeout(self._definition.policy))
        if stop is _Stop.UNSTORED:
            patience = self._shared.options.patience_seconds
            return await self._fail(of_unstored(self._definition.policy, patience, self._writer.trouble))
        if self._stop is not _Stop.HAND_BACK:  # perhaps cancelled while it was given time to leave
            return await self._finish(Status.CANCELLED, "{}")
        if not self._claim.record.may_lose_worker:
            record = await until_answered(lambda: self._shared.store.find(self._task_id))
            if record is not None and record.is_cancel_requested:  # the nudge may be on its way still
                return await self._finish(Status.CANCELLED, "{}")
            return await self._fail(Failure("The worker was shut down before the task had ended.", "worker_lost"))
        return await self._hand_back()

    async def _finish(self, status: Status, data: str, values: Mapping[str, str] | None = None) -> tuple[Status, str]:
        self._is_ending = True
        await self._writer.finish(status, data, values)
        self._is_dead_letter = values is not None
        return status, data

    async def _hand_back(self) -> tuple[Status, str] | None:
        """Hand the task back for another worker, at once."""
        released = await self._leave(calls.release(self._shared.keys, self._task_id, nonce=self._claim.nonce))
        if released.outcome == "cancelled":
            return await self._finish(Status.CANCELLED, "{}")
        await until_answered(lambda: self._shared.queue.put_back(self._claim.entry))
        await self._news.became(Status.PENDING)
        _log.info("Task %s (%s) was handed back", self._task_id, self._definition.name)
        return None

    async def _leave(self, call: Call[_Left]) -> _Left:
        """Have the record say that this attempt is over and the task is not, unless it was cancelled.

        Raises `Fenced`.
        """
        self._is_ending = True
        await self._writer.flush()
        while (left := await until_answered(lambda: run(self._shared.client, call))).outcome == "missing":
            await self._writer.verify()  # Redis lost the record: it is written back, or we are fenced
            if self._restoring:  # by its index entry the reaper finds it, should we die before the queue knows
                await self._restoring
        if left.outcome == "fenced":
            raise Fenced("Its record names another run, or its end.")
        return left

    async def _settle(self, end: tuple[Status, str], *, is_told: bool) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._shared.draining.wait(), _AFTERGLOW_SECONDS)
        try:
            await self._writer.verify()
            if not is_told:
                await self._news.became(*end)
        except Fenced:  # run again or deleted in the meantime; this run's entry is of no more use
            _log.debug("Task %s was taken up again before its entry was acked", self._task_id)
        if self._restoring:
            await self._restoring
        if self._is_dead_letter:
            await until_answered(lambda: self._shared.dead_letters.add(self._task_id))
        await until_answered(lambda: self._shared.queue.settle(self._claim.entry))

    def _context(self) -> Context:
        record = self._claim.record
        return Context(
            task_id=record.id,
            attempt=record.attempt,
            fence=record.generation,
            restored=record.checkpoint,
            writer=self._writer,
            max_event_bytes=self._shared.max_event_bytes,
            stop=self._sign,
            on_progress=self._news.progressed,
        )

    def _ask(self, stop: _Stop) -> None:
        # A cancelled task is over, whatever else its worker was about to do with it.
        is_stronger = stop in {_Stop.FENCE, _Stop.REFUSED} or (stop is _Stop.CANCEL and self._stop is _Stop.HAND_BACK)
        if self._stop is None or is_stronger:
            self._stop = stop
        self._turn.set()

    def _heed(self, renewal: Renewal) -> None:
        """Act on what a renewal found: rules 4 and 6 of `workers.renewal`."""
        if self._is_ending:
            return
        if renewal.outcome == "refused" or (renewal.outcome == "absent" and self._claim.lease.is_fresh):
            self._writer.probe()
        elif renewal.outcome != "renewed":
            self._writer.fence(f"Its lease could not be renewed: the record answered {renewal.outcome!r}.")
        elif not renewal.is_intact:
            self._writer.probe()
        if renewal.is_cancel_requested:
            self._ask(_Stop.CANCEL)

    def _fenced(self, _reason: str) -> None:
        self._ask(_Stop.FENCE)

    def _unstored(self) -> None:
        if not self._is_ending:
            _log.error(
                "Task %s (%s) is stopped: Redis has stored nothing of it for %g s. %s",
                self._task_id,
                self._definition.name,
                self._shared.options.patience_seconds,
                self._writer.trouble,
            )
            self._ask(_Stop.UNSTORED)

    def _refused(self, refusal: LogRefused) -> None:
        self._refusal = refusal
        self._ask(_Stop.REFUSED)

    def _restore_index(self) -> None:
        if self._restoring is None or self._restoring.done():
            restore = until_answered(lambda: self._shared.store.restore_index(self._task_id))
            self._restoring = asyncio.ensure_future(restore)
