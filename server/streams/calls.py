"""The scripts as typed calls: keys, arguments and the meaning of each reply, with no I/O.

A `Call` is built here and sent by `connections.run` or `run_sync`, so asyncio code, threads and tests share one
contract. The protocol they follow is docs/protocol.md; each .lua file states its KEYS, ARGV and replies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Generic, TypeVar

from server.streams.event import Draft, Event, decode_entries
from server.streams.ids import ORIGIN, EventId, decode_event_id
from server.streams.keys import Keys
from server.streams.names import task_of_stream, task_stream
from server.streams.records import StreamRecord, TaskRecord

T = TypeVar("T")
Argument = str | bytes | int

_PRELUDE_HERE: Final = "-- @prelude\n"


@dataclass(frozen=True, slots=True)
class Script:
    """The text of a script and the name under which Redis caches it."""

    text: str
    sha: str


@dataclass(slots=True)  # not frozen, nor is Batch: each append makes one, and freezing would take as long again
class Call(Generic[T]):
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    parse: Callable[[Any], T]

    def tail(self) -> tuple[Argument, ...]:
        """What follows the script or its hash in EVAL and EVALSHA."""
        return (len(self.keys), *self.keys, *self.args)


@cache
def script(name: str) -> Script:
    """The script of that name with what it shares with others."""
    folder = files("server.streams") / "scripts"
    return joined(name, lambda file: (folder / f"{file}.lua").read_text())


def joined(name: str, source: Callable[[str], str]) -> Script:
    """Put a script together from the texts of its files."""
    body, prelude = source(name), source("_prelude")
    # To make the prelude's functions takes Redis as long as an append; a script that can do without says where it goes.
    rest = body.replace(_PRELUDE_HERE, prelude) if _PRELUDE_HERE in body else prelude + body
    text = source("_ring") + rest
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long keys live, ms. All are refreshed while a stream is written or its task is leased."""

    #: A log while it may still be written.
    live_ms: int = 7 * 86_400_000
    #: A log after its end, and a shared log after its last event.
    retention_ms: int = 86_400_000
    #: A task's record after its end, and so its result: it answers for the log when that is gone.
    record_ms: int = 2 * 86_400_000
    #: The record of a dead letter: a person has to find the time to look at it.
    dead_ms: int = 30 * 86_400_000

    @classmethod
    def lasting(cls, *, retention_seconds: float, result_seconds: float, dead_letter_seconds: float) -> Lifetimes:
        """Those that follow from the settings: a record is needed longer than its log, and a dead letter is one."""
        retention_ms = int(retention_seconds * 1000)
        record_ms = max(int(result_seconds * 1000), 2 * retention_ms)
        dead_ms = max(int(dead_letter_seconds * 1000), record_ms)
        return cls(max(cls().live_ms, retention_ms), retention_ms, record_ms, dead_ms)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script decided, and the id that goes with it (`ORIGIN` where there is none)."""

    outcome: str
    id: EventId = ORIGIN


_STORED: Final = Reply("stored")


def _reply(raw: Sequence[Any]) -> Reply:
    if raw == b"stored":
        return _STORED
    has_id = len(raw) > 1 and isinstance(raw[1], bytes) and b"-" in raw[1]
    return Reply(raw[0].decode(), decode_event_id(raw[1]) if has_id else ORIGIN)


@dataclass(slots=True)
class Batch:
    """Consecutive events of one generation, as a writer sends them."""

    generation: int
    first_sequence: int
    drafts: Sequence[Draft]
    is_terminal: bool = False


class WriterCalls:
    """The calls of one writer. What they have in common is put together once: a busy task makes thousands."""

    def __init__(
        self, keys: Keys, task_id: str, *, generation: int, nonce: str, lease_ms: int, lifetimes: Lifetimes
    ) -> None:
        stream = task_stream(task_id)
        self._keys = (keys.log(stream), keys.record(task_id))
        self._bell = keys.bell(stream)
        self._generation = generation
        self._nonce = nonce
        self._lease_ms = lease_ms
        self._lifetimes = lifetimes

    def append(
        self,
        batch: Batch,
        *,
        expected: EventId,
        values: Mapping[str, str] | None = None,
        refreshes: bool = False,
        trim_to: int = 0,
    ) -> Call[Reply]:
        """Append a batch, or finish (a batch with a terminal event). Nothing is trimmed with `trim_to=0`.

        Outcomes: stored; differs, lost, fenced, closed with the log's last id (docs/protocol.md says what each means).
        """
        extras: tuple[Argument, ...] = ()
        if values or refreshes or trim_to or batch.is_terminal:
            lives = self._lives(batch, values or {}) if refreshes or batch.is_terminal else (0, 0)
            extras = (int(batch.is_terminal), *lives, trim_to, *_flat(values or {}))
        args = (self._bell, self._nonce, str(expected), len(extras), *extras, *_triples(batch))
        return Call(script("append"), self._keys, args, _reply)

    def repair(self, batch: Batch, *, values: Mapping[str, str], highest: int, max_events: int) -> Call[Reply]:
        """Write the log back from `batch`, and the record from `values`. Outcomes: stored, fenced.

        `highest` is the highest sequence the writer ever gave out; `max_events` how many the log may keep, 0 for all.
        """
        pairs = _flat(values)
        args = (
            self._bell, self._nonce, self._generation, highest, int(batch.is_terminal), *self._lives(batch, values),
            max_events, self._lease_ms, len(pairs), *pairs, *_triples(batch),
        )  # fmt: skip
        return Call(script("repair"), self._keys, args, _reply)

    def _lives(self, batch: Batch, values: Mapping[str, str]) -> tuple[int, int]:
        """How long log and record are to live, ms; `values` say whether the task becomes a dead letter."""
        lifetimes = self._lifetimes
        if batch.is_terminal:
            return lifetimes.retention_ms, lifetimes.dead_ms if "dead" in values else lifetimes.record_ms
        return lifetimes.live_ms, lifetimes.live_ms


def _triples(batch: Batch) -> list[str]:
    """Id, type and data of each event."""
    generation, found = f"{batch.generation}-", list[str]()
    for sequence, draft in enumerate(batch.drafts, batch.first_sequence):
        found += (f"{generation}{sequence}", draft.type, draft.data)
    return found


def _flat(values: Mapping[str, str]) -> list[str]:
    return [text for item in values.items() for text in item]


def publish(
    keys: Keys,
    stream: str,
    drafts: Sequence[Draft],
    *,
    token: str,
    token_ms: int,
    entropy: int,
    known: EventId | None,
    lifetimes: Lifetimes,
    max_events: int,
    is_terminal: bool = False,
) -> Call[Reply]:
    """Append to a shared stream, once per token. `entropy` is random, 0–999; `known` the publisher's last id.

    Outcomes: stored and repeated with the first id; conflict (token used with another body); closed; exhausted.
    """
    events = [text for each in drafts for text in (each.type, each.data)]
    body = hashlib.sha256("\0".join([*events, str(is_terminal)]).encode()).hexdigest()[:32]
    args = (
        keys.bell(stream), body, entropy, str(known) if known else "", lifetimes.retention_ms, token_ms, max_events,
        len(drafts), *events, int(is_terminal),
    )  # fmt: skip
    return Call(script("publish"), (keys.log(stream), keys.idempotency(stream, token)), args, _reply)


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
    """What a renewal found: renewed, absent (record lost), ended or fenced."""

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


def release(keys: Keys, task_id: str, *, nonce: str) -> Call[Reply]:
    """Hand a running task back without counting the attempt. Outcomes: released, fenced."""
    return Call(script("release"), (keys.record(task_id),), (nonce,), _reply)


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

    args = (nonce, delay_ms, error, code, lifetimes.live_ms)
    return Call(script("retry"), (keys.record(task_id),), args, parse)


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

    args = (lifetimes.live_ms, body, delay_ms, not_before_ms, *_flat(values))
    return Call(script("create"), (keys.record(task_id),), args, parse)


def start(keys: Keys, task_id: str, *, rerun_of: int | None, lifetimes: Lifetimes, end: str = "") -> Call[Reply]:
    """Release a pending task to the workers, or an ended one for another run. Outcomes: started, joined, missing.

    A re-run replaces the attempt `rerun_of` and, if it is given, the terminal event with the id `end`.
    """
    args = (keys.bell(task_stream(task_id)), lifetimes.live_ms, "" if rerun_of is None else rerun_of, end)
    return Call(script("start"), (keys.record(task_id),), args, _reply)


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
    return Call(script("settle"), (keys.log(stream), keys.record(task_id)), args, _reply)


def expire(keys: Keys, task_id: str, *, entropy: int, lifetimes: Lifetimes) -> Call[Reply]:
    """End a task whose lease has run out, if it must not be tried again.

    Outcomes: missing, ended, held, open (it may be tried again), settled with the id, exhausted.
    """
    stream = task_stream(task_id)
    args = (keys.bell(stream), entropy, lifetimes.retention_ms, lifetimes.record_ms, lifetimes.dead_ms)
    return Call(script("expire"), (keys.log(stream), keys.record(task_id)), args, _reply)


def discard(keys: Keys, task_id: str, *, lifetimes: Lifetimes) -> Call[Reply]:
    """Make an ordinary ended task of a dead letter. Outcomes: discarded, missing."""
    return Call(script("discard"), (keys.record(task_id),), (lifetimes.record_ms,), _reply)


def delete(keys: Keys, task_id: str, *, lifetimes: Lifetimes) -> Call[Reply]:
    """Remove an ended task. Outcomes: deleted, running, missing."""
    stream = task_stream(task_id)
    args = (keys.bell(stream), lifetimes.retention_ms)
    return Call(script("delete"), (keys.log(stream), keys.record(task_id)), args, _reply)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent look at a stream."""

    #: The page asked for, oldest first.
    events: tuple[Event, ...]
    #: The last id the log has given out; None if there is no log.
    last_id: EventId | None
    #: Whether the log's last entry is terminal.
    is_closed: bool
    #: None if the stream has no record: not a task's, or the task is unknown.
    record: StreamRecord | None
    #: Redis' clock, ms since epoch.
    now_ms: int
    #: The highest id that anybody ever took out of the middle of the log.
    deleted_up_to: EventId = ORIGIN
    #: Whether the log holds every entry it ever had.
    is_whole: bool = True


def read(keys: Keys, stream: str, *, first: EventId, last: EventId | None, limit: int) -> Call[Snapshot]:
    """Read up to `limit` events from `first` on, `first` included, up to `last`; fewer, about 1 MiB, of large ones."""

    def parse(raw: Sequence[Any]) -> Snapshot:
        rows, last_id, closed, record, now, deleted, whole = raw
        return Snapshot(
            decode_entries(rows),
            decode_event_id(last_id) if last_id else None,
            closed == b"1",
            StreamRecord.decode(record) if record else None,
            int(now),
            decode_event_id(deleted),
            whole == b"1",
        )

    task_id = task_of_stream(stream)
    log = keys.log(stream)
    args = (str(first), str(last) if last else "+", limit, int(task_id is not None))
    return Call(script("read"), (log, log if task_id is None else keys.record(task_id)), args, parse)


def amend(keys: Keys, task_id: str, values: Mapping[str, str]) -> Call[Reply]:
    """Change fields of a record if it exists. Outcomes: amended, missing."""
    return Call(script("amend"), (keys.record(task_id),), tuple(_flat(values)), _reply)
