"""What one reader of one task was told, judged event by event by the task's script. Imports nothing of the product.

Theory of operation
-------------------
A follower keeps what a client of docs/api.md would show: the standing events. It knows from the script what each has
to be, so two proofs run side by side.

1. Ids, by docs/protocol.md: within a generation the sequence counts without holes; another generation begins at 0,
   with `attempt`, or with an end where no worker lived. Nothing else may come, unless a `gap` was told before.
2. Contents: the next number is the number of those that stand. `attempt` voids what does not stand, by its
   `resume_from`; a checkpoint comes where the script has one, and nowhere else.

A `gap` makes the next number unknown: whatever comes then is taken, but nothing that was shown before. A `position`
that goes back, which only a gap may bring, takes back what was shown behind it. A number that comes too late or too
early without any of these is a hole that was not announced, or a repeat.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from tests.chaos.sse import Message
from tests.chaos.truth import NUMBER, Script, result

TERMINAL = frozenset({"complete", "error", "cancelled"})
_TRANSCRIPT_LINES = 60
_SHOWN_DATA = 150


class Id(NamedTuple):
    generation: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.generation}-{self.sequence}"


ORIGIN = Id(0, 0)


def parse_id(text: str) -> Id:
    generation, _, sequence = text.partition("-")
    return Id(int(generation), int(sequence))


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept."""

    #: `hole`, `repeat` or what else it is.
    kind: str
    says: str
    at: float


@dataclass(slots=True)
class Gap:
    """A hole that was announced."""

    at: float
    requested: Id
    resumed_at: Id | None
    #: When the reader came to where it was.
    cursor_at: float
    #: How many numbered events were missing, once that was known; None if an attempt made all of it void.
    missing: int | None = None


class Ending(NamedTuple):
    at: float
    id: Id
    type: str
    data: str


@dataclass
class Follower:
    """The witness of one reader."""

    name: str
    script: Script
    clock: Callable[[], float]
    events: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    gaps: list[Gap] = field(default_factory=list[Gap])
    endings: list[Ending] = field(default_factory=list[Ending])
    #: Process that wrote the newest number.
    writer: int = 0
    stalls: int = 0
    attempts: int = 0
    transcript: deque[str] = field(default_factory=lambda: deque[str](maxlen=_TRANSCRIPT_LINES))
    #: The newest id, of an event or a position.
    at: Id = ORIGIN
    #: When it came.
    at_since: float = 0.0
    #: The number that has to come next; None after a gap.
    _next: int | None = 0
    #: No number below may come: it was shown, and stands.
    _floor: int = 0
    #: What comes next need not follow by its id.
    _is_open: bool = False
    #: What stood up to each checkpoint: the number after it.
    _kept: dict[Id, int | None] = field(default_factory=dict[Id, "int | None"])
    #: Whether some of what stands was announced to be missing.
    _lacks: bool = False
    _last_type: str = ""
    #: What an `attempt` made from the record showed to be missing: the gap that says so has to come next.
    _unexplained: str = ""
    #: When the newest event came, and the longest time between two.
    _told_at: float | None = None
    longest_silence: float = 0.0
    silent_until: float = 0.0

    @property
    def has_ended(self) -> bool:
        return self._last_type in TERMINAL

    def connected(self, cursor: str) -> None:
        self._note(f"connects with {cursor or 'no cursor'}")

    def disconnected(self, how: str) -> None:
        self._note(f"disconnected: {how}")

    def saw(self, message: Message) -> None:
        """Take one message of a response in."""
        self._note(f"{message.id or '(no id)'} {message.type} {message.data[:_SHOWN_DATA]}")
        try:
            data = json.loads(message.data)
            event_id = parse_id(message.id) if message.id else None
        except ValueError:
            self._blame("corrupt", f"{message.type!r} with id {message.id!r} has data {message.data[:_SHOWN_DATA]!r}.")
            return
        if self._unexplained and message.type not in {"gap", "stalled"} and (event_id or message.type != "attempt"):
            self._blame("hole", self._unexplained)
            self._unexplained = ""
        if message.type == "stalled":
            self.stalls += 1
        elif message.type == "gap":
            self._gap(data)
        elif message.type == "position" and event_id:
            self._position(event_id)
        elif message.type == "attempt" and event_id is None:
            self._attempt(data, is_told_from_record=True)
        elif event_id:
            self._event(event_id, message, data)
        else:
            self._blame("corrupt", f"{message.type!r} has no id.")

    # What is told besides the events.

    def _gap(self, data: dict[str, Any]) -> None:
        requested = parse_id(data["requested"]) if data["requested"] else ORIGIN
        resumed_at = parse_id(data["resumed_at"]) if data["resumed_at"] else None
        if requested != self.at:
            self._blame("gap", f"A gap was told after {requested}, but the reader was at {self.at}.")
        self.gaps.append(Gap(self.clock(), requested, resumed_at, self.at_since))
        self._unexplained = ""
        self._is_open = self._lacks = True
        if self._next is not None:
            self._floor = self._next
        self._next = None

    def _position(self, position: Id) -> None:
        if position < self.at:
            if not self._is_open:
                self._blame("repeat", f"A position went back from {self.at} to {position} without a gap.")
            self._take_back(position)
        elif position > self.at and not self._is_open:
            self._blame("hole", f"A position went on from {self.at} to {position} without a gap.")
        self.at, self.at_since = position, self.clock()

    def _take_back(self, position: Id) -> None:
        self._kept = {event_id: number for event_id, number in self._kept.items() if event_id <= position}
        # Where between two checkpoints it lies is not known; what is told again is checked from its first number on.
        self._next = 0 if position == ORIGIN else None
        self._floor = max((number or 0 for number in self._kept.values()), default=0)

    def _attempt(self, data: dict[str, Any], *, is_told_from_record: bool = False) -> None:
        self.attempts += 1
        resume_from = parse_id(data["resume_from"]) if data["resume_from"] else None
        self._last_type = "attempt"
        if resume_from is None:
            self._next, self._floor, self._lacks = 0, 0, False
            self._kept.clear()
            return
        self._kept = {event_id: number for event_id, number in self._kept.items() if event_id <= resume_from}
        if resume_from in self._kept:
            self._next = self._kept[resume_from]
            self._floor = self._next or 0
            self._last_type = "checkpoint"
            return
        says = f"What stands up to {resume_from} goes on, but that checkpoint was never told."
        if is_told_from_record and not self._lacks:
            self._unexplained = says
        elif not self._lacks:
            self._blame("hole", says)
        self._next = None
        self._floor = max((number or 0 for number in self._kept.values()), default=0)

    # Events of the log.

    def _event(self, event_id: Id, message: Message, data: Any) -> None:
        self.events += 1
        now = self.clock()
        silence = 0.0 if self._told_at is None else now - self._told_at
        if silence > self.longest_silence:
            self.longest_silence, self.silent_until = silence, now
        self._told_at = now
        last, self.at, self.at_since = self.at, event_id, now
        opens = event_id.sequence == 0 and event_id.generation > last.generation
        opens = opens and (message.type == "attempt" or message.type in TERMINAL)
        is_next = event_id == Id(last.generation, last.sequence + 1) and last != ORIGIN
        if event_id <= last:
            self._blame("repeat", f"{event_id} {message.type!r} came behind {last}.")
        elif not (is_next or opens or self._is_open):
            self._blame("hole", f"{event_id} {message.type!r} came behind {last}, and no gap was told.")
            self._next = None
        self._is_open = False
        if message.type == "attempt":
            self._attempt(data)
        elif message.type == NUMBER:
            self._number(data)
            self._last_type = NUMBER
        elif message.type == "checkpoint":
            self._checkpoint(event_id)
            self._last_type = "checkpoint"
        elif message.type in TERMINAL:
            self._end(event_id, message, data)
            self._last_type = message.type
        else:
            self._blame("corrupt", f"{event_id} has a type that nobody emits: {message.type!r}.")

    def _number(self, data: dict[str, Any]) -> None:
        number: Any = data.get("n")
        expected = self.script.payload(number) if isinstance(number, int) else None
        if expected is None or {name: value for name, value in data.items() if name != "pid"} != expected:
            self._blame("corrupt", f"This is none of the task's events: {str(data)[:_SHOWN_DATA]}.")
            return
        self.writer = cast("int", data["pid"])
        if self._next is not None and number > self._next:
            self._blame("hole", f"Number {number} came where {self._next} had to, and no gap was told.")
        elif number < (self._floor if self._next is None else self._next):
            self._blame("repeat", f"Number {number} came although it was told before, and stands.")
        elif self._next is not None and self._last_type == NUMBER and self.script.checkpoint_follows(number - 1):
            self._blame("hole", f"Number {number} came where a checkpoint had to.")
        if self._next is None and self.gaps and self.gaps[-1].missing is None:
            self.gaps[-1].missing = max(0, number - self._floor)
        self._next = self._floor = number + 1

    def _checkpoint(self, event_id: Id) -> None:
        if self._next is not None and (
            self._next == 0 or not self.script.checkpoint_follows(self._next - 1) or self._last_type == "checkpoint"
        ):
            self._blame("hole", f"A checkpoint came before number {self._next}, where the script has none.")
        self._kept[event_id] = self._next

    def _end(self, event_id: Id, message: Message, data: Any) -> None:
        self.endings.append(Ending(self.clock(), event_id, message.type, message.data))
        is_whole = message.type == "complete" or (message.type == "error" and data.get("code") == "task_failed")
        if is_whole and self._next is not None and self._next != self.script.events:
            self._blame("hole", f"The end came before number {self._next} of {self.script.events}.")
        if message.type == "complete" and data.get("result") != result(self.script.key, self.script.events):
            self._blame("corrupt", f"The result is none of this task: {message.data[:_SHOWN_DATA]}.")

    def _blame(self, kind: str, says: str) -> None:
        self.violations.append(Violation(kind, says, self.clock()))
        self._note(f"!!! {kind}: {says}")

    def _note(self, line: str) -> None:
        # After a violation the transcript keeps what led to it.
        if not self.violations or len(self.transcript) < _TRANSCRIPT_LINES or "!!!" in line:
            self.transcript.append(f"{self.clock():8.3f} {line}")
