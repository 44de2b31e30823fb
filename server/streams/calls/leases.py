"""Who may run a task: claim, renew, release, and hand it back for another attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.streams.calls.lifetimes import Lifetimes
from server.streams.calls.script import Call, Reply, parse_reply, script
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.names import task_stream
from server.streams.records import TaskRecord


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim led to: missing, ended, held, early, settled, exhausted, or claimed with the record."""

    outcome: str
    record: TaskRecord | None = None
    #: For "held": how long to wait before asking again.
    wait_ms: int = 0
    #: For "early": before when the task must not begin, ms since epoch.
    not_before_ms: int = 0


def claim(
    keys: Keys,
    task_id: str,
    *,
    nonce: str,
    worker: str,
    lease_ms: int,
    entropy: int,
    lifetimes: Lifetimes,
    may_take_expired: bool,
) -> Call[Claimed]:
    """Take the lease of a task and open a generation. The same nonce gets the same answer again."""

    def parse(raw: Sequence[Any]) -> Claimed:
        outcome = raw[0].decode()
        if outcome == "held":
            return Claimed(outcome, wait_ms=int(raw[1]))
        if outcome == "early":
            return Claimed(outcome, not_before_ms=int(raw[1]))
        return Claimed(outcome, TaskRecord.decode(task_id, raw[2]) if outcome == "claimed" else None)

    stream = task_stream(task_id)
    args = (
        keys.bell(stream), nonce, worker, lease_ms, entropy,
        lifetimes.live_ms, lifetimes.live_ms, lifetimes.retention_ms, lifetimes.record_ms, int(may_take_expired),
        lifetimes.dead_ms,
    )  # fmt: skip
    return Call(script("claim"), (keys.log(stream), keys.record(task_id)), args, parse)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal found: renewed, absent (record lost), ended or fenced; or overdue, if the task was given away."""

    outcome: str
    is_cancel_requested: bool = False
    #: Whether the log still holds everything the writer saw stored.
    is_intact: bool = True


def renew(
    keys: Keys, task_id: str, *, nonce: str, lease_ms: int, lifetimes: Lifetimes, stored: EventId
) -> Call[Renewal]:
    """Renew the lease if it is still this nonce's, and look for the cancel flag."""

    def parse(raw: Sequence[Any]) -> Renewal:
        if raw[0] == b"renewed":
            return Renewal("renewed", raw[1] == b"1", raw[2] == b"1")
        return Renewal(raw[0].decode())

    args = (nonce, lease_ms, lifetimes.live_ms, lifetimes.live_ms, str(stored))
    return Call(script("renew"), (keys.log(task_stream(task_id)), keys.record(task_id)), args, parse)


def overdue(keys: Keys, task_id: str, *, nonce: str, error: str, may_retry: bool) -> Call[Renewal]:
    """Give away a task whose attempt hangs: another worker may take it at once, and says why it does."""
    args = (nonce, error, int(not may_retry))
    return Call(script("overdue"), (keys.record(task_id),), args, lambda raw: Renewal(raw[0].decode()))


def release(keys: Keys, task_id: str, *, nonce: str) -> Call[Reply]:
    """Hand a running task back without counting the attempt. The same nonce gets the same answer.

    Outcomes: released, cancelled (its writer has to end it), fenced, or missing (record lost).
    """
    return Call(script("release"), (keys.record(task_id),), (nonce,), parse_reply)


@dataclass(frozen=True, slots=True)
class Postponed:
    """What became of a task whose attempt failed: postponed, cancelled, fenced, or missing (record lost)."""

    outcome: str
    #: Before when the next attempt must not begin, ms since epoch.
    not_before_ms: int = 0


def retry(
    keys: Keys, task_id: str, *, nonce: str, delay_ms: int, error: str, code: str, lifetimes: Lifetimes
) -> Call[Postponed]:
    """Hand a task back whose attempt failed, for another one after `delay_ms`. The same nonce gets the same answer."""

    def parse(raw: Sequence[Any]) -> Postponed:
        return Postponed(raw[0].decode(), int(raw[1]) if len(raw) > 1 else 0)

    args = (nonce, delay_ms, error, code, lifetimes.live_ms, keys.bell(task_stream(task_id)))
    return Call(script("retry"), (keys.record(task_id),), args, parse)
