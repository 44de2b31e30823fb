"""The life of a task but for its runs: create, start, end where no writer lives, delete, change its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.streams.calls.lifetimes import Lifetimes
from server.streams.calls.script import Call, Reply, flat, parse_reply, script
from server.streams.keys import Keys
from server.streams.names import task_stream
from server.streams.records import TaskRecord


@dataclass(frozen=True, slots=True)
class Created:
    """created, exists (the same request came before) or conflict (another request used the key)."""

    outcome: str
    record: TaskRecord | None = None


def create(
    keys: Keys,
    task_id: str,
    *,
    body: str,
    values: Mapping[str, str],
    lifetimes: Lifetimes,
    delay_ms: int = 0,
    not_before_ms: int = 0,
) -> Call[Created]:
    """Write a task's record unless it exists. `body` is a hash of the request that asks for it.

    The task may begin after `delay_ms` from now by Redis' clock, and not before `not_before_ms` since epoch.
    """

    def parse(raw: Sequence[Any]) -> Created:
        return Created(raw[0].decode(), TaskRecord.decode(task_id, raw[1]) if len(raw) > 1 else None)

    args = (lifetimes.live_ms, body, delay_ms, not_before_ms, *flat(values))
    return Call(script("create"), (keys.record(task_id),), args, parse)


def start(keys: Keys, task_id: str, *, rerun_of: int | None, lifetimes: Lifetimes, end: str = "") -> Call[Reply]:
    """Release a pending task to the workers, or an ended one for another run. Outcomes: started, joined, missing.

    A re-run replaces the attempt `rerun_of` and, if it is given, the terminal event with the id `end`.
    """
    args = (keys.bell(task_stream(task_id)), lifetimes.live_ms, "" if rerun_of is None else rerun_of, end)
    return Call(script("start"), (keys.record(task_id),), args, parse_reply)


@dataclass(frozen=True, slots=True)
class Ending:
    """The terminal state that `settle` writes where no writer lives."""

    status: str
    event_type: str
    data: str


def settle(
    keys: Keys,
    task_id: str,
    ending: Ending,
    *,
    mode: str,
    entropy: int,
    lifetimes: Lifetimes,
    may_judge_expired: bool,
) -> Call[Reply]:
    """Cancel (`mode="cancel"`) or reap a task.

    Outcomes: missing, ended, held, flagged, settled with the id, exhausted.
    """
    stream = task_stream(task_id)
    args = (
        keys.bell(stream), keys.control(task_id), mode, ending.status, ending.event_type, ending.data, entropy,
        lifetimes.retention_ms, lifetimes.record_ms, int(may_judge_expired),
    )  # fmt: skip
    return Call(script("settle"), (keys.log(stream), keys.record(task_id)), args, parse_reply)


def expire(keys: Keys, task_id: str, *, entropy: int, lifetimes: Lifetimes) -> Call[Reply]:
    """End a task whose lease has run out, if it must not be tried again.

    Outcomes: missing, ended, held, open (it may be tried again), settled with the id, exhausted.
    """
    stream = task_stream(task_id)
    args = (keys.bell(stream), entropy, lifetimes.retention_ms, lifetimes.record_ms, lifetimes.dead_ms)
    return Call(script("expire"), (keys.log(stream), keys.record(task_id)), args, parse_reply)


def discard(keys: Keys, task_id: str, *, lifetimes: Lifetimes) -> Call[Reply]:
    """Make an ordinary ended task of a dead letter. Outcomes: discarded, missing."""
    return Call(script("discard"), (keys.record(task_id),), (lifetimes.record_ms,), parse_reply)


def delete(keys: Keys, task_id: str, *, lifetimes: Lifetimes) -> Call[Reply]:
    """Remove an ended task. Outcomes: deleted, running, missing."""
    stream = task_stream(task_id)
    args = (keys.bell(stream), lifetimes.retention_ms)
    return Call(script("delete"), (keys.log(stream), keys.record(task_id)), args, parse_reply)


def amend(keys: Keys, task_id: str, values: Mapping[str, str]) -> Call[Reply]:
    """Change fields of a record if it exists. Outcomes: amended, missing."""
    return Call(script("amend"), (keys.record(task_id),), tuple(flat(values)), parse_reply)
