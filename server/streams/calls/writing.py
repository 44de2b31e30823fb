"""The calls of the writer of a task's stream: append, and repair after Redis lost data.

Called for every batch of every busy task, so what calls have in common is put together once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.streams.calls.lifetimes import Lifetimes
from server.streams.calls.script import Argument, Call, Reply, flat, parse_reply, script
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.names import task_stream


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
        trim_to_bytes: int = 0,
    ) -> Call[Reply]:
        """Append a batch, or finish (a batch with a terminal event). 0 events and 0 bytes to trim to: nothing is
        trimmed.

        Outcomes: stored; differs, lost, fenced, closed with the log's last id (docs/protocol.md says what each means).
        """
        extras: tuple[Argument, ...] = ()
        if values or refreshes or trim_to or trim_to_bytes or batch.is_terminal:
            lives = self._lives(batch, values or {}) if refreshes or batch.is_terminal else (0, 0)
            extras = (int(batch.is_terminal), *lives, trim_to, trim_to_bytes, *flat(values or {}))
        args = (self._bell, self._nonce, str(expected), len(extras), *extras, *_triples(batch))
        return Call(script("append"), self._keys, args, parse_reply)

    def repair(self, batch: Batch, *, values: Mapping[str, str], highest: int, max_events: int) -> Call[Reply]:
        """Write the log back from `batch`, and the record from `values`. Outcomes: stored, fenced.

        `highest` is the highest sequence the writer ever gave out; `max_events` how many the log may keep, 0 for all.
        """
        pairs = flat(values)
        args = (
            self._bell, self._nonce, self._generation, highest, int(batch.is_terminal), *self._lives(batch, values),
            max_events, self._lease_ms, len(pairs), *pairs, *_triples(batch),
        )  # fmt: skip
        return Call(script("repair"), self._keys, args, parse_reply)

    def _lives(self, batch: Batch, values: Mapping[str, str]) -> tuple[int, int]:
        """How long log and record are to live, ms; `values` say whether the task becomes a dead letter."""
        lifetimes = self._lifetimes
        if batch.is_terminal:
            return lifetimes.after_end(is_dead="dead" in values)
        return lifetimes.live_ms, lifetimes.live_ms


def _triples(batch: Batch) -> list[str]:
    """Id, type and data of each event."""
    generation, found = f"{batch.generation}-", list[str]()
    for sequence, draft in enumerate(batch.drafts, batch.first_sequence):
        found += (f"{generation}{sequence}", draft.type, draft.data)
    return found
