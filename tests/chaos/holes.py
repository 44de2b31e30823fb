"""Whether the holes that one reader was told of were real: what can have taken that which it was said to lack.

Pure. Invariant: a hole is put down to a loss or to trimming only if that can have taken something from behind this
reader's cursor. Imports nothing of the product.

Theory of operation
-------------------
1. Events are written in the order of their ids. So what lies behind a cursor was written after the event at the cursor,
   and a loss that was over by then took none of it. A loss that was not may be told late: its reader was away, came
   late, or waited for a new attempt; no time that has passed since speaks against it.

       reader      ... 7-40           7-41 ... 7-90     gap after 7-90?
       Redis                  loss                      no: all behind 7-90 was written later

2. When an event was written is not known for each; when at the earliest, its id tells. The generation is the time of
   day at which its attempt began (docs/protocol.md, "Ids"), and the script pauses behind each number.
3. A loss leaves one hole at most, for writers append behind the end of a log and nowhere else. Once a reader was led
   over it, to `resumed_at`, the same loss explains no other hole further on. A failover may: until the old master
   finds out, there are two logs. Without `resumed_at` the reader has to wait; what it finds then is told once more.
4. A log is trimmed to its newest events, and what was trimmed is not written again. So its first id lies above the
   cursor at last; and since the missing ones its script had the time for as many events as a log keeps.
5. What is missing below an event that is there comes back only with an older state of the log, or if that event is an
   end told from the record, which its worker writes back with all before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from tests.chaos.chronicle import SLACK_SECONDS, Chronicle, Incident
from tests.chaos.follower import ORIGIN, Gap, Id
from tests.chaos.outcome import Outcome
from tests.chaos.truth import Script

#: A generation is so much ahead of the clock at most: a random part of it is.
_AHEAD_SECONDS = 1.0


@dataclass(frozen=True)
class Pace:
    """How fast a script can have written at most."""

    script: Script
    #: Before its first attempt.
    started_at: float
    #: As in the chronicle.
    epoch: float

    @property
    def entries(self) -> int:
        """What one attempt can have written: numbers, checkpoints, its beginning and its end."""
        return self.script.events + self._checkpoints(self.script.events) + 2

    def earliest(self, event_id: Id) -> float:
        """Before this moment nothing with this id, or a higher one, was written."""
        if event_id == ORIGIN:
            return self.started_at
        began = event_id.generation / 1000 - self.epoch - _AHEAD_SECONDS - SLACK_SECONDS
        # The highest sequence there is names the place before the next generation.
        before = event_id.sequence - 1 if event_id.sequence <= self.entries else 0
        numbers = before - before // (self.script.checkpoint_every + 1) if self.script.checkpoint_every else before
        # Behind the newest number there may have been no pause yet.
        return max(self.started_at, began + max(0, numbers - 1) * self.script.pause_ms / 1000)

    def most_between(self, begin: float, end: float) -> float:
        """How many numbers and checkpoints at most."""
        if not self.script.pause_ms:
            return inf
        numbers = 1 + max(0.0, end - begin) * 1000 / self.script.pause_ms
        return numbers + (numbers / self.script.checkpoint_every if self.script.checkpoint_every else 0)

    def _checkpoints(self, numbers: int) -> int:
        return numbers // self.script.checkpoint_every if self.script.checkpoint_every else 0


class Holes:
    """Those in one task's log."""

    def __init__(self, chronicle: Chronicle, outcome: Outcome, *, max_events: int, came_back_within: float) -> None:
        """A worker that lives writes back within `came_back_within` seconds of a loss."""
        self._outcome = outcome
        self._max_events = max_events
        self._came_back_within = came_back_within
        self._pace = Pace(outcome.plan.script, outcome.started_at, chronicle.epoch)
        losses = chronicle.losses(outcome.task_id, outcome.started_at)
        self._losses = sorted(losses, key=lambda loss: loss.lost_last)
        # Redis may have lost a claim with the rest of the record; then the next one was counted under the same number.
        lost_claims = len(chronicle.record_losses(outcome.task_id, outcome.started_at))
        self._attempts = max([outcome.attempt, *(each.follower.attempts for each in outcome.readers)]) + lost_claims
        self._ends = {ending.id for each in outcome.readers for ending in each.follower.endings} | {outcome.last_id}

    def unreal(self, gaps: Sequence[Gap]) -> Iterator[str]:
        """What is wrong with the gaps that one reader was told, in their order."""
        #: The holes that the reader was led over: where it went on, and what they are put down to.
        crossed: list[tuple[Id, Incident]] = []
        for gap in gaps:
            # A reader that went back meets a hole again.
            crossed = [(at, loss) for at, loss in crossed if at <= gap.requested]
            was_trimmed = self._was_trimmed(gap)
            loss = None if was_trimmed else self._loss(gap, [loss for _, loss in crossed])
            held = self._held(gap)
            if loss is None and not was_trimmed:
                yield f"A gap was told after {gap.requested}, but nothing behind it was lost or trimmed."
            elif held and not self._may_have_come_back(gap):
                yield f"A gap was told, but the log has {held[0]} and {len(held) - 1} more."
            if loss and gap.resumed_at and not loss.is_failover:
                crossed.append((gap.resumed_at, loss))

    def _loss(self, gap: Gap, told: Sequence[Incident]) -> Incident | None:
        """The first that may have taken something behind the cursor, and has not been told yet."""
        # Whoever has seen an event proves that it was written.
        written = self._pace.earliest(gap.requested)
        if gap.requested != ORIGIN:
            written = min(written, gap.cursor_at)
        for loss in self._losses:
            is_in_time = loss.began <= gap.at + SLACK_SECONDS and loss.lost_last + SLACK_SECONDS >= written
            if is_in_time and all(loss is not each for each in told):
                return loss
        return None

    def _was_trimmed(self, gap: Gap) -> bool:
        if gap.resumed_at is None:
            return False  # where a log goes on that was trimmed is known
        log = self._outcome.log
        if log and log[0][0] <= gap.requested and not self._was_set_back_since(gap):
            return False
        if not self._losses and len(log) < self._max_events:
            return False
        # Before the first event of a generation the log may hold void ones, which lie above all that is missing.
        is_open = gap.resumed_at.sequence == 0
        since = self._pace.earliest(gap.requested if is_open else gap.resumed_at)
        newer = self._pace.most_between(since, gap.at + SLACK_SECONDS) + 2 * self._attempts
        return min(newer, self._pace.entries * self._attempts) >= self._max_events

    def _held(self, gap: Gap) -> list[Id]:
        """What the log has, at last, of what was told to be missing."""
        end = gap.resumed_at
        if end is None:
            return []
        ids = (event_id for event_id, _ in self._outcome.log if gap.requested < event_id < end)
        return [event_id for event_id in ids if event_id.generation == end.generation]

    def _may_have_come_back(self, gap: Gap) -> bool:
        return gap.resumed_at in self._ends or self._was_set_back_since(gap)

    def _was_set_back_since(self, gap: Gap) -> bool:
        """Whether another state of the log than the one that the gap was told from may be what is left."""
        return any(loss.lost_last >= gap.at - self._came_back_within for loss in self._losses)
