"""Task records: the hash that decides, decoded.

Owns the names of its fields and what they mean. A record outlives the log, so it holds the terminal event's data
verbatim, and the chain by which a reader knows which generations stand. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from server.streams.event import CANCELLED, COMPLETE, ERROR, Event
from server.streams.ids import ORIGIN, EventId, decode_event_id, parse_event_id


class Status(StrEnum):
    """Where a task stands. `DELETED` is the marker that stays behind for readers."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"

    @property
    def is_ended(self) -> bool:
        return self not in {Status.PENDING, Status.RUNNING}


#: The type of the terminal event behind each final status.
TERMINAL_TYPES: Final = {Status.COMPLETED: COMPLETE, Status.FAILED: ERROR, Status.CANCELLED: CANCELLED}


#: Errors of attempts kept in a record: the newest. As in `_prelude.lua`.
_ERROR_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Link:
    """One generation of the current run, and up to where the ones before it still stand (None: not at all)."""

    generation: int
    resume_from: EventId | None


Chain = tuple[Link, ...]


def decode_chain(text: str) -> Chain:
    """The chain as the scripts keep it: `[["<generation>", "<resume_from>" | null], …]`, oldest first."""
    return tuple(
        Link(int(generation), parse_event_id(resume) if resume else None) for generation, resume in json.loads(text)
    )


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """The part of a record that readers of the stream need."""

    status: Status
    chain: Chain
    last_id: EventId
    lease_until_ms: int
    #: Data of the terminal event; None while unfinished or deleted.
    end: str | None
    #: Data of the newest `attempt`, in case the event itself was trimmed.
    opening: str | None
    attempt: int
    #: Whether the task is cancelled once nobody follows it.
    ends_unfollowed: bool = False

    @classmethod
    def decode(cls, raw: Sequence[bytes | None]) -> StreamRecord:
        status, chain, last_id, lease_until, end, opening, attempt, *others = raw
        return cls(
            Status((status or b"").decode()),
            decode_chain((chain or b"[]").decode()),
            decode_event_id(last_id) if last_id else ORIGIN,
            int(lease_until or 0),
            end.decode() if end is not None else None,
            opening.decode() if opening is not None else None,
            int(attempt or 0),
            ends_unfollowed=others == [b"cancel"],
        )

    def is_leased(self, now_ms: int) -> bool:
        """Whether a writer is known to live."""
        return self.status is Status.RUNNING and self.lease_until_ms > now_ms

    def terminal_event(self) -> Event | None:
        """The terminal event, made from the record with its id; None if the task has none."""
        event_type = TERMINAL_TYPES.get(self.status)
        if event_type is None or self.end is None:
            return None
        return Event(self.last_id, event_type, self.end, is_terminal=True)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A whole record, for the worker that claimed it and for the API."""

    id: str
    status: Status
    #: Every field as Redis holds it; what a writer needs to write a lost record back.
    values: dict[str, str] = field(repr=False)

    @classmethod
    def decode(cls, task_id: str, raw: Sequence[bytes]) -> TaskRecord:
        """From a flat HGETALL reply."""
        pairs = zip(raw[::2], raw[1::2], strict=True)
        values = {name.decode(): value.decode(errors="replace") for name, value in pairs}
        return cls(task_id, Status(values["status"]), values)

    @property
    def type(self) -> str:
        return self.values.get("type", "")

    @property
    def queue(self) -> str:
        return self.values.get("queue", "default")

    @property
    def unique_key(self) -> str | None:
        """While it has not ended there is no other task of its type with this key; None if it has none."""
        return self.values.get("unique_key")

    @property
    def attempt(self) -> int:
        return int(self.values.get("attempt", 0))

    @property
    def generation(self) -> int:
        return int(self.values.get("generation", 0))

    @property
    def lease_until_ms(self) -> int:
        return int(self.values.get("lease_until", 0))

    @property
    def is_cancel_requested(self) -> bool:
        return "cancel" in self.values

    @property
    def is_queued(self) -> bool:
        """Whether workers may run it; false until a task created without execution is started."""
        return self.values.get("queued") == "1"

    @property
    def not_before_ms(self) -> int:
        """Before when the next attempt must not begin, ms since epoch; 0 for at once."""
        return int(self.values.get("not_before", 0))

    @property
    def has_attempts_left(self) -> bool:
        """Whether it may be tried again after the present attempt."""
        return self.spent < int(self.values.get("max_attempts", 1))

    @property
    def spent(self) -> int:
        """Attempts that count against `max_attempts`: those of this run that were not handed back."""
        return int(self.values.get("spent", 0))

    @property
    def may_lose_worker(self) -> bool:
        """Whether it may be tried again when its worker is lost."""
        return self.values.get("on_worker_lost", "retry") == "retry"

    @property
    def checkpoint(self) -> Any:
        """The state to go on from; None if nothing stands of earlier attempts."""
        return json.loads(self.values["checkpoint"]) if "resume_from" in self.values else None

    @property
    def unfollowed_since_ms(self) -> int | None:
        """Since when nobody follows the task, where that matters; 0 while somebody does, None before anybody did."""
        since = self.values.get("unfollowed_since")
        return None if since is None else int(since)

    @property
    def is_dead_letter(self) -> bool:
        return "dead" in self.values

    @property
    def end_code(self) -> str | None:
        """The code of the error that ended the task; None if none did."""
        return json.loads(self.values.get("end", "{}")).get("code")

    @property
    def errors(self) -> list[dict[str, Any]]:
        """How each attempt failed that did, oldest first: attempt, error, code, at."""
        return [json.loads(line) for line in self.values.get("errors", "").split("\n") if line]

    @property
    def input(self) -> dict[str, Any]:
        return json.loads(self.values.get("input", "{}"))

    @property
    def progress(self) -> int | float | None:
        """A percentage; None while the task has not said."""
        if self.status is Status.COMPLETED:
            return 100  # whatever it said last
        return json.loads(self.values.get("progress", "null"))

    def as_json(self) -> dict[str, Any]:
        """The task as docs/api shows it. Times are ms since epoch in Redis and RFC 3339 here."""
        end: dict[str, Any] = json.loads(self.values.get("end", "{}"))
        return {
            "id": self.id,
            "type": self.type,
            "title": self.values.get("title", self.type),
            "queue": self.queue,
            "unique_key": self.unique_key,
            "input": self.input,
            "status": self.status.value,
            "attempt": self.attempt,
            "progress": self.progress,
            "result": end.get("result") if self.status is Status.COMPLETED else None,
            "error": self._error(end),
            "not_before": rfc3339(self.values.get("not_before")) if self.status is Status.PENDING else None,
            "last_event_id": self.values.get("last_id"),
            "created_at": rfc3339(self.values.get("created_at")),
            "updated_at": rfc3339(self.values.get("updated_at")),
            "events_url": f"/tasks/{self.id}/events",
        }

    def _error(self, end: dict[str, Any]) -> str | None:
        """What the task failed with, or its last attempt while it waits for the next one."""
        if self.status is Status.FAILED:
            return end.get("error")
        return self.values.get("last_error") if self.status is Status.PENDING else None


def with_error(lines: str, *, attempt: int, error: str, code: str, at_ms: int) -> str:
    """The record's `errors` with one more, as `note_error` in `_prelude.lua` writes them."""
    line = json.dumps({"attempt": attempt, "error": error, "code": code, "at": at_ms}, separators=(",", ":"))
    whole = f"{lines}\n{line}" if lines else line
    while len(whole) > _ERROR_BYTES and "\n" in whole:
        whole = whole.partition("\n")[2]
    return whole


def rfc3339(milliseconds: str | None) -> str | None:
    """A moment of a record, as the API shows it."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
