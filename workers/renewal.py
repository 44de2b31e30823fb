"""Keeping leases: the thread that renews every claim of this worker.

Owns the thread and its connection. Knows of an attempt only what it needs to renew it, and tells it, on the event
loop, what a renewal found.

Theory of operation
-------------------
1. A claim makes this process the writer of a task for one lease. The record holds the owner's nonce and, by Redis'
   clock, until when. Whoever finds the lease expired may claim the task and open the next generation.
2. Every claim has a nonce of its own, and a claim whose reply was lost is asked again with the same one. By anything
   else the record shows, this worker's claim could be its rival's.
3. Renewal is on a thread, because a task may block the event loop for longer than a lease:

       loop    claim ── task: time.sleep(60) ──────────────────────────── finish
       thread         renew  renew  renew  renew  renew  renew  renew        ok

   Renewed on the loop, the task would be given away at the second dash, and run twice.
4. A renewal is conditional on the nonce. A worker that was frozen past its lease finds another owner: it is fenced,
   its function is stopped, and it neither writes nor acks. The entry in the queue is the successor's by then.
5. A lease counts from when its claim or renewal was *asked* for. Counted from the reply, a slow reply would let this
   worker believe in a lease that Redis has already ended. A claim asked twice counts from the first time: the second
   reply only repeats the first.
6. "My record is gone" is not "my lease was taken". While the lease is fresh by our own clock nobody else can have
   claimed the task, so Redis lost data, and the writer puts log, record and lease back. Afterwards it must stop.
7. After an outage every lease may have run out while its owner lives. So owners renew the moment Redis answers again,
   and nobody takes an expired lease before having been in touch with Redis for one lease (`Contact`):

       Redis      | up |----- away longer than a lease -----| up
       owner      run ...                                     renew: still mine
       rival                                                  without the rule: claim; two runs
8. Each renewal also touches the task's entry in the queue, so its idle time stays below the lease, and other workers
   see by XAUTOCLAIM alone which tasks to look at. The entry only hints; the claim asks the record. Renewals of many
   tasks share round trips: one by one, each of a thousand would wait once more until a busy event loop lets go of the
   interpreter, and the last ones would come too late. One that Redis refuses does not keep the others from theirs.
9. A function that blocks the event loop for ever cannot be stopped from inside the process, and rule 3 would keep its
   lease for ever too. So an attempt that outlasts its timeout by some seconds is given away by this thread, which also
   notes why: whoever takes the task over, or ends it, says "timeout" and not that a worker was lost. This one is fenced
   if it ever wakes up; the other tasks on its loop hang as long as it does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from server.streams import calls
from server.streams.calls import Call, Lifetimes, Renewal
from server.streams.connections import SyncClient, run_many_sync
from server.streams.errors import LogRefused, LogUnavailable
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.lease import RENEWALS_PER_LEASE, Lease, boot_seconds
from server.streams.ready import QueueEntry, touch_many_sync

_log = logging.getLogger(__name__)

#: While Redis is away it is asked this often: owners must be first when it is back.
_RETRY_SECONDS: Final = 0.2
#: Few enough that the last of them does not wait long behind the others.
_PER_TRIP: Final = 100
_ALL_IS_WELL: Final = Renewal("renewed")
#: Whether there is anything left to write to, its writer has to find out.
_REFUSED: Final = Renewal("refused")


@dataclass(eq=False, frozen=True, slots=True)
class Held:
    """A claim to keep. Made by the attempt, read by the thread."""

    entry: QueueEntry
    nonce: str
    lease: Lease
    #: The last id the writer knows to be in the log; called from the thread.
    stored: Callable[[], EventId]
    #: Told on the event loop what a renewal found, unless all is well.
    heed: Callable[[Renewal], None]
    #: Gives the task away instead of renewing it, once its attempt blocks the event loop (rule 9); None until then.
    #: Told the time by the lease's clock; called from the thread.
    overdue: Callable[[float], Call[Renewal] | None] = lambda _: None

    @property
    def task_id(self) -> str:
        return self.entry.task_id


class LeaseKeeper:
    """Renews what it holds, from its own thread. Its methods may be called from the event loop at any time."""

    def __init__(self, client: SyncClient, keys: Keys, *, consumer: str, lease_ms: int, lifetimes: Lifetimes) -> None:
        self._client = client
        self._keys = keys
        self._consumer = consumer
        self._lease_ms = lease_ms
        self._lifetimes = lifetimes
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Added to and removed from by the loop, copied by the thread: each one step under the GIL.
        self._held: set[Held] = set()
        self._wake = threading.Event()
        #: How often somebody asked for renewals at once.
        self._asked = 0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="lease keeper", daemon=True)

    def start(self) -> None:
        """Start the thread; outcomes are told on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread, without waiting for it: it may be waiting for Redis."""
        self._is_stopping = True
        self._wake.set()

    @property
    def asked(self) -> int:
        """What to tell `hold`: noted before the claim."""
        return self._asked

    def hold(self, held: Held, *, asked: int | None = None) -> None:
        """Keep a claim from now on, and renew at once if that was asked for since `asked`.

        Or a nudge that comes between the claim and here would be for nothing:

            worker  claim ── granted ......................... hold        next renewal: the flag is found
            server           cancel: flag, nudge
            thread                        renews all others
        """
        self._held.add(held)
        if asked is not None and asked != self._asked:
            self._wake.set()

    def drop(self, held: Held) -> None:
        """Let a claim go. A renewal that is on its way may still be told."""
        self._held.discard(held)

    def renew_now(self) -> None:
        """Renew everything at once: after a reconnect, or because a cancel flag may have been set unheard."""
        self._asked += 1
        self._wake.set()

    def _run(self) -> None:
        interval = self._lease_ms / 1000 / RENEWALS_PER_LEASE
        is_away = False
        while not self._is_stopping:
            pause = interval
            try:
                self._renew(tuple(self._held))
                is_away = False
            except LogUnavailable as error:
                if not is_away:
                    _log.warning("Leases cannot be renewed: %s", error)
                is_away = True
                pause = min(interval, _RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - a supervised loop: without it every lease would run out
                _log.exception("Renewing leases failed")
            self._wake.wait(pause)
            self._wake.clear()
        self._client.close()

    def _renew(self, everything: Sequence[Held]) -> None:
        refusals: list[LogUnavailable] = []
        for start in range(0, len(everything), _PER_TRIP):
            asked_at = boot_seconds()
            some = everything[start : start + _PER_TRIP]
            overdue = [held.overdue(asked_at) for held in some]
            sent = [call or self._call(held) for held, call in zip(some, overdue, strict=True)]
            renewals = run_many_sync(self._client, sent)
            renewed: list[Held] = []
            for held, given_away, renewal in zip(some, overdue, renewals, strict=True):
                if isinstance(renewal, LogRefused):
                    self._note(held, _REFUSED, asked_at=asked_at)
                elif isinstance(renewal, LogUnavailable):
                    refusals.append(renewal)
                elif held in self._held:
                    if given_away:
                        self._give_up(held)
                    self._note(held, renewal, asked_at=asked_at)
                    renewed += [held] if renewal.outcome == "renewed" else []
            touch_many_sync(self._client, [held.entry for held in renewed], consumer=self._consumer)
        if refusals:
            raise refusals[0]

    def _note(self, held: Held, renewal: Renewal, *, asked_at: float) -> None:
        if renewal.outcome == "renewed":
            held.lease.renewed(asked_at=asked_at)
        if renewal != _ALL_IS_WELL and self._loop is not None:
            self._loop.call_soon_threadsafe(held.heed, renewal)

    def _give_up(self, held: Held) -> None:
        """Whatever the answer was: one to a call whose first reply was lost says "fenced"."""
        self.drop(held)
        held.lease.end()
        _log.error("Task %s hangs past its timeout; it is given to another worker", held.task_id)

    def _call(self, held: Held) -> Call[Renewal]:
        return calls.renew(
            self._keys,
            held.task_id,
            nonce=held.nonce,
            lease_ms=self._lease_ms,
            lifetimes=self._lifetimes,
            stored=held.stored(),
        )
