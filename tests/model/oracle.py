"""The oracle: what was in the log, what clients saw, and whether the promises were kept.

It shares no code with the product: it reads the log and the record by plain commands after every action, parses ids and
chains itself, and judges what reaches each client. Two kinds of rule:

Of the log    an id never changes its contents; an event is stored once; nothing is written behind a terminal event, by
              a zombie, or after the end; no writer that knows its lease to be fresh loses its task.
Of a client   ids ascend, and no event comes twice, unless a gap led back; every event it passes over lies in a `gap` it
              was told, or is void by an `attempt` it was sent; runs never mix; `missed` counts right; an end it is told
              is the end of the current run; when all is quiet it has everything, or knows what it lacks.

What nobody can know is left out: an event that Redis lost with every trace of it (see `docs/protocol-proof.md`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from server.streams.event import Draft
    from server.streams.ids import EventId
    from tests.model.clients import Frame
    from tests.model.world import World

Id = tuple[int, int]
Contents = tuple[str, str]
BEGINNING: Id = (0, 0)
_TERMINAL = {"complete", "error", "cancelled"}
_ENDED = {"completed", "failed", "cancelled", "deleted"}
#: What a client that had not heard of it gets of a deletion, under the id of the end, which is no more.
_DELETION: Contents = ("cancelled", '{"reason":"deleted"}')


class Violation(AssertionError):
    """A promise was broken."""


def parse(text: str | bytes) -> Id:
    generation, _, sequence = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(generation), int(sequence)


def show(ids: Iterable[Id]) -> str:
    return ", ".join(f"{generation % 10_000_000}-{sequence}" for generation, sequence in ids)


@dataclass(slots=True)
class Fact:
    """What is known of one id."""

    #: All contents the id ever had; more than one is a broken promise.
    contents: list[Contents]
    #: "log", "trimmed" (by retention or by hand) or "lost" (by Redis).
    fate: str = "log"
    is_terminal: bool = False
    #: Which of all events it was; after a loss a later one may have a lower id.
    order: int = 0


class Notes(NamedTuple):
    """The oracle's knowledge of what is in Redis, to go back to when Redis does."""

    fates: dict[Id, str]
    record: dict[str, str]


@dataclass(slots=True)
class Oracle:
    """Judges one schedule. `fail` raises `Violation`."""

    world: World
    #: Whether only the rules of clients count: ablations show what a client would see.
    clients_only: bool = False
    book: dict[Id, Fact] = field(default_factory=dict[Id, Fact])
    #: Ids in the log now, in order.
    log: list[Id] = field(default_factory=list[Id])
    record: dict[str, str] = field(default_factory=dict[str, str])
    generations: set[int] = field(default_factory=set[int])
    #: For each generation of a task: up to where what was before it stands.
    links: dict[int, Id | None] = field(default_factory=dict[int, Id | None])
    #: For each generation of a shared stream: the last id that its opener had been given.
    opener_knew: dict[int, Id] = field(default_factory=dict[int, Id])
    readers: list[Reader] = field(default_factory=list["Reader"])
    #: The terminal event the record names now.
    end: Id | None = None
    _publishing: dict[str, Id] = field(default_factory=dict[str, Id])
    _claims_to_check: list[tuple[Id, Contents]] = field(default_factory=list[tuple[Id, Contents]])

    @property
    def is_task(self) -> bool:
        return self.world.stream.startswith("tasks.")

    @property
    def has_ended(self) -> bool:
        return self.record.get("status") in _ENDED

    def fail(self, what: str) -> None:
        raise Violation(what)

    def fail_log(self, what: str) -> None:
        if not self.clients_only:
            raise Violation(what)

    def reader(self, name: str, *, all_attempts: bool) -> Reader:
        found = Reader(self, name, is_standing_view=self.is_task and not all_attempts)
        self.readers.append(found)
        return found

    def highest_known_generation(self) -> int:
        info = self.world.server.observer.many([("XINFO", "STREAM", self.world.log_key)])[0]
        last = 0
        if not isinstance(info, Exception):
            last = parse(info[info.index(b"last-generated-id") + 1])[0]
        return max(last, int(self.record.get("generation", 0)))

    # What others tell.

    def note_emitted(self, event_id: EventId, event_type: str, data: str) -> None:
        self._claims_to_check.append((event_id, (event_type, data)))

    def note_publishing(self, data: Sequence[str], acknowledged: EventId | None) -> None:
        if acknowledged:
            self._publishing[data[0]] = acknowledged

    def note_acknowledged(self, ids: Sequence[EventId], drafts: Sequence[Draft]) -> None:
        for event_id, draft in zip(ids, drafts, strict=True):
            self._claims_to_check.append((event_id, (draft.type, draft.data)))

    def note_removal(self, redis: Callable[..., Any], *command: Any) -> None:
        """Remove entries by a command; they become trimmed ones."""
        self._note_change(redis, command, "trimmed")

    def note_loss(self, redis: Callable[..., Any], *command: Any) -> None:
        """Lose entries by a command."""
        self._note_change(redis, command, "lost")
        if not self.log:
            for fact in self.book.values():
                fact.fate = "lost"

    def fates(self) -> dict[Id, str]:
        return {event_id: fact.fate for event_id, fact in self.book.items()}

    def take_notes(self) -> Notes:
        self.look()
        return Notes(self.fates(), dict(self.record))

    def note_restore(self, notes: Notes) -> None:
        for event_id, fact in self.book.items():
            fact.fate = notes.fates.get(event_id, "lost")
        self._read()

    def _note_change(self, redis: Callable[..., Any], command: tuple[Any, ...], fate: str) -> None:
        self.look()
        before = self.log
        redis(*command)
        self._read()
        for event_id in set(before) - set(self.log):
            self.book[event_id].fate = fate

    # What it sees itself.

    def look(self) -> None:
        """Read the log and the record, and judge what has been added."""
        before, earlier = set(self.log), self.record
        rows = self._read()
        added = [row for row in rows if parse(row[0]) not in before]
        for raw_id, raw_fields in added:
            self._note_entry(parse(raw_id), [each.decode() for each in raw_fields], earlier)
        if added:
            self._check_log()
        due, self._claims_to_check = self._claims_to_check, []
        for event_id, contents in due:
            fact = self.book.get(event_id)
            if fact and contents not in fact.contents:
                self.fail_log(f"{show([event_id])} was given for {contents}, and holds {fact.contents}")

    def _read(self) -> list[Any]:
        world = self.world
        commands: list[tuple[Any, ...]] = [("XRANGE", world.log_key, "-", "+")]
        if self.is_task:
            commands.append(("HGETALL", world.log_key.removesuffix(":log") + ":task"))
        rows, *records = world.server.observer.many(commands)
        self.log = [parse(row[0]) for row in rows]
        flat = [each.decode() for each in records[0]] if records else []
        self.record = dict(zip(flat[::2], flat[1::2], strict=True))
        self.end = parse(self.record["last_id"]) if self.has_ended and "last_id" in self.record else None
        for reader in self.readers:
            reader.ends_seen.add(self.end)
            reader.has_seen_nothing = reader.has_seen_nothing or not (self.log or self.record)
        return rows

    def _note_entry(self, event_id: Id, flat: list[str], earlier: dict[str, str]) -> None:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        contents = (fields["e"], fields["d"])
        fact = self.book.setdefault(event_id, Fact([], order=len(self.book)))
        if contents not in fact.contents:
            fact.contents.append(contents)
            if len(fact.contents) > 1:
                self.fail_log(f"{show([event_id])} had other contents before: {fact.contents}")
        fact.fate, fact.is_terminal = "log", "z" in fields
        if event_id[1] == 0:
            self._note_opening(event_id[0], contents, fields, earlier)
        self.generations.add(event_id[0])
        self._check_writer(event_id, earlier)

    def _check_takeover(self, earlier: dict[str, str]) -> None:
        """A task is taken from a writer only once the writer itself knows that it may be."""
        if earlier.get("status") != "running":
            return
        if earlier.get("owner") in self.world.fresh_nonces():
            self.fail_log("a task was taken from a writer whose lease was fresh")
        if not self.world.has_been_up_for_a_lease():
            self.fail_log("a task was taken from a writer that had no chance to renew since Redis came back")

    def _note_opening(
        self, generation: int, contents: Contents, fields: dict[str, str], earlier: dict[str, str]
    ) -> None:
        knew = self._publishing.get(contents[1])
        if knew:
            self.opener_knew[generation] = knew
        if contents[0] == "attempt":
            if generation not in self.generations:
                self._check_takeover(earlier)
            resume = json.loads(contents[1])["resume_from"]
            self.links[generation] = parse(resume) if resume else None
        elif self.is_task and generation not in self.links:
            # Where no writer lives, the end comes behind what stood; the record says how far that went.
            previous = max(parse(fields.get("p", "0-0")), parse(earlier.get("last_id", "0-0")))
            has_run = earlier.get("chain", "[]") != "[]"
            self.links[generation] = previous if has_run and previous > BEGINNING else None

    def _check_writer(self, event_id: Id, earlier: dict[str, str]) -> None:
        known = int(earlier.get("generation", 0))
        if event_id[0] < known:
            self.fail_log(f"a zombie wrote {show([event_id])} after generation {known % 10_000_000} had begun")
        if earlier.get("status") in _ENDED and event_id[0] <= known:
            self.fail_log(f"{show([event_id])} was written after the end")

    def _check_log(self) -> None:
        data = [self.book[event_id].contents[-1] for event_id in self.log]
        numbered = [each for each in data if each[0] not in {"attempt", "cancelled"}]
        if len(set(numbered)) < len(numbered):
            self.fail_log(f"an event is stored twice: {numbered}")
        for previous, event_id in zip(self.log, self.log[1:], strict=False):
            if self.book[previous].is_terminal and (previous[0] == event_id[0] or not self.is_task):
                self.fail_log(f"{show([event_id])} was written behind the terminal {show([previous])}")

    # What stands.

    def standing_before(self, generation: int) -> set[Id]:
        """What stands when this generation opens."""
        found: set[Id] = set()
        upto = self.links.get(generation)
        while upto is not None:
            found |= {event_id for event_id in self.book if event_id[0] == upto[0] and event_id <= upto}
            upto = self.links.get(upto[0])
        return found

    def standing_now(self) -> set[Id]:
        """All standing events, by the record."""
        chain = json.loads(self.record.get("chain") or "[]")
        uptos: list[Id | None] = [parse(resume) if resume else None for _, resume in [*chain[1:], (0, None)]]
        last = parse(self.record.get("last_id") or "0-0")
        found: set[Id] = set()
        for (generation, _), upto in zip(chain, uptos, strict=False):
            top = upto or max(last, self.log[-1] if self.log else BEGINNING)
            found |= {event_id for event_id in self.book if event_id[0] == int(generation) and event_id <= top}
        return found

    def newest_generation(self) -> int:
        chain = json.loads(self.record.get("chain") or "[]")
        return int(chain[-1][0]) if chain else 0

    def judge_the_quiet(self) -> None:
        """Judge every client once nothing is under way any more."""
        self.look()
        for reader in self.readers:
            reader.judge_the_quiet()


@dataclass(slots=True)
class Reader:
    """What one client was sent, judged as it arrives."""

    oracle: Oracle
    name: str
    is_standing_view: bool
    has_begun: bool = False
    #: What it asked for first; everything after it is its due. None until known, for one that began at the end.
    start: Id | None = BEGINNING
    cursor: Id | None = BEGINNING
    seen: dict[Id, Contents] = field(default_factory=dict[Id, Contents])
    #: What it has and was not told to be void.
    valid: set[Id] = field(default_factory=set[Id])
    #: What it was told to be missing.
    covered: set[Id] = field(default_factory=set[Id])
    how_ended: str = ""
    last_was_terminal: bool = False
    #: Ends the record has named while it was connected.
    ends_seen: set[Id | None] = field(default_factory=set[Id | None])
    #: Whether there was neither log nor record at some time since it connected.
    has_seen_nothing: bool = False
    journal: list[str] = field(default_factory=list[str])
    _run: int = 0
    _has_gap: bool = False
    _gap_at_end: bool = False
    _told_attempt: bool = False
    _closed_by: Id | None = None
    _fates: dict[Id, str] | None = None

    def begin(self, start: str) -> None:
        self.has_begun = True
        if start == "end":
            self.start = self.cursor = None
        elif start != "start":
            self.start = self.cursor = parse(start)
            self._run = self.cursor[0]
        self.journal.append(f"begins at {start}")

    def connected(self) -> None:
        self.ends_seen = {self.oracle.end}
        self.has_seen_nothing = not (self.oracle.log or self.oracle.record)

    def take(self, frame: Frame, fates: dict[Id, str] | None = None) -> bool:
        """Judge what arrived, by what was in the log when it was sent. True if the client now closes for good."""
        self._fates = fates
        self.journal.append(f"{frame.id or '-'} {frame.type} {frame.data}")
        self.last_was_terminal = frame.type in _TERMINAL
        if frame.type == "gap":
            self._take_gap(json.loads(frame.data))
        elif frame.id is None:
            if frame.type == "attempt":
                self._told_attempt = True
                self._make_void(json.loads(frame.data)["resume_from"])
        elif frame.type == "position":
            self._take_position(parse(frame.id))
        else:
            self._take_event(parse(frame.id), (frame.type, frame.data))
        return self.last_was_terminal and (self.is_standing_view or not self.oracle.is_task)

    def ended(self, how: str) -> None:
        """The client was told that there is no more."""
        self.journal.append(f"ends: {how}")
        self.how_ended = how
        oracle = self.oracle
        oracle.look()
        self._closed_by = self.cursor if how == "terminal" else max(oracle.log, default=None)
        if how == "404":
            if not self.has_seen_nothing:
                self._fail("was told 404, and there is a record or a log")
            return
        if how == "204" and oracle.is_task and self.ends_seen <= {None} and oracle.record.get("status") != "deleted":
            self._fail("was told 204, and the task has not ended")
        if how == "terminal" and oracle.is_task and self.cursor not in self.ends_seen:
            self._fail("was ended by a terminal event that the record never named meanwhile")
        if oracle.record.get("status") != "deleted" and ((how == "204" and oracle.end) or self.cursor == oracle.end):
            self._check_nothing_missing()

    def judge_the_quiet(self) -> None:
        oracle = self.oracle
        if not self.has_begun:
            return
        if oracle.is_task:
            self._judge_quiet_task()
        elif self._closed_by is None or oracle.book[self._closed_by].fate == "log":
            self._check_nothing_missing()  # unless the end of the stream was lost, and it goes on

    def _judge_quiet_task(self) -> None:
        oracle = self.oracle
        if self.how_ended or oracle.record.get("status") == "deleted":
            return
        if not oracle.record:
            if not self._gap_at_end and (self.seen or oracle.log):
                self._fail("was told nothing, and the task is gone")
            return
        if oracle.has_ended and not (
            oracle.end and oracle.end in oracle.book and oracle.book[oracle.end].fate == "trimmed"
        ):
            self._fail("has not been told the end")
        self._check_nothing_missing()

    # One frame each.

    def _take_gap(self, gap: dict[str, Any]) -> None:
        requested = parse(gap["requested"]) if gap["requested"] else None
        resumed = parse(gap["resumed_at"]) if gap["resumed_at"] else None
        if (requested or BEGINNING) != (self.cursor or requested or BEGINNING):
            self._fail(f"was told a gap behind {gap['requested']}, where it is not")
        passed = {
            each for each in self.oracle.book if each > (requested or BEGINNING) and (not resumed or each < resumed)
        }
        if requested in self.oracle.book and self.oracle.book[requested].fate == "lost":
            # Its place is gone, and what came instead may have lower ids.
            passed |= {each for each in self.oracle.book if not resumed or each < resumed}
        if gap["missed"] is not None and resumed:
            self._check_missed(int(gap["missed"]), requested, resumed, passed)
        self.covered |= passed
        if resumed is None or resumed[0] != (requested or resumed)[0]:
            self.valid.clear()  # it knows that what it has is not the whole
        self._has_gap, self._gap_at_end = True, resumed is None

    def _check_missed(self, missed: int, requested: Id | None, resumed: Id, passed: set[Id]) -> None:
        if self.is_standing_view:
            own = {(resumed[0], sequence) for sequence in range(resumed[1])}
            true = len((self.oracle.standing_before(resumed[0]) | own) & (passed | own) - self._upto(requested))
        else:
            true = resumed[1] - requested[1] - 1 if requested and requested[0] == resumed[0] else -1
        if missed != true:
            self._fail(f"was told that {missed} are missing; it is {true}")

    def _upto(self, requested: Id | None) -> set[Id]:
        return {(requested[0], sequence) for sequence in range(requested[1] + 1)} if requested else set()

    def _take_position(self, position: Id) -> None:
        if self.cursor is None:
            self.start = position
            self._run = position[0]
        elif position != self.cursor:
            if not self._has_gap:
                self._fail("was moved by a position that no gap explains")
            if position < self.cursor:
                self.seen = {each: contents for each, contents in self.seen.items() if each <= position}
                self.valid = {each for each in self.valid if each <= position}
        self.cursor = position

    def _take_event(self, event_id: Id, contents: Contents) -> None:
        oracle = self.oracle
        if self._is_deletion(event_id, contents):
            self.seen[event_id] = contents
            self.cursor = event_id
            return
        fact = oracle.book.get(event_id)
        if fact is None or contents not in fact.contents:
            self._fail(f"got {show([event_id])} {contents}, which nobody wrote")
        if self.cursor is None:
            self.start = self.cursor = (event_id[0], event_id[1] - 1) if event_id[1] else (event_id[0] - 1, 2**64)
            self._run = event_id[0] if event_id[1] else 0
        if event_id <= self.cursor or event_id in self.seen:
            self._fail(f"got {show([event_id])} again")
        passed = self._passed_over(self.cursor, event_id, contents) - self.covered
        if passed:
            self._fail(f"silently passed over {show(sorted(passed))} on its way to {show([event_id])}")
        if self.is_standing_view:
            self._follow_run(event_id, contents)
        self.seen[event_id] = contents
        self.valid.add(event_id)
        self.cursor = event_id
        self._has_gap = self._gap_at_end = False

    def _is_deletion(self, event_id: Id, contents: Contents) -> bool:
        record = self.oracle.record
        is_told = record.get("status") == "deleted" and contents == _DELETION and event_id == parse(record["last_id"])
        if is_told and self.cursor == event_id:
            self._fail(f"got the deletion, though it was at {show([event_id])} already")
        return is_told

    def _follow_run(self, event_id: Id, contents: Contents) -> None:
        if event_id[1] == 0:
            if contents[0] == "attempt":
                self._make_void(json.loads(contents[1])["resume_from"])
        elif self._run != event_id[0] == self.oracle.newest_generation() and not self._told_attempt:
            self._fail(f"got {show([event_id])} of a run whose attempt it was not told")
        self._run = event_id[0]
        self._told_attempt = False

    def _make_void(self, resume_from: str | None) -> None:
        upto = parse(resume_from) if resume_from else BEGINNING
        self.valid = {each for each in self.valid if each <= upto}

    # What must not be missing.

    def _passed_over(self, cursor: Id, event_id: Id, contents: Contents) -> set[Id]:
        """Events that were the client's due between the two."""
        oracle = self.oracle
        if self.is_standing_view:
            own = {(event_id[0], sequence) for sequence in range(event_id[1])}
            due = oracle.standing_before(event_id[0]) | own
            return {each for each in due if cursor < each}
        knew = oracle.opener_knew.get(event_id[0], BEGINNING) if event_id[1] == 0 else BEGINNING
        return {
            each
            for each, fact in oracle.book.items()
            if cursor < each < event_id
            and fact.order < oracle.book[event_id].order
            and (self._fate(each, fact) != "lost" or each <= knew)
        }

    def _fate(self, event_id: Id, fact: Fact) -> str:
        return fact.fate if self._fates is None else self._fates.get(event_id, "lost")

    def _check_nothing_missing(self) -> None:
        oracle = self.oracle
        if self.is_standing_view:
            due = oracle.standing_now()
        else:
            due = {each for each, fact in oracle.book.items() if fact.fate != "lost"}
        standing = due
        if not self.how_ended:
            # What somebody removed from the very end is told with the event that follows.
            due = {
                each
                for each in due
                if each <= max(oracle.log, default=BEGINNING) or oracle.book[each].fate != "trimmed"
            }
        missing = (
            {each for each in due if self.start is not None and each > self.start} - self.seen.keys() - self.covered
        )
        if missing:
            self._fail(f"never got {show(sorted(missing))}")
        for event_id, contents in self.seen.items():
            if oracle.book[event_id].fate == "log" and oracle.book[event_id].contents[-1] != contents:
                self._fail(f"has {contents} for {show([event_id])}, which holds {oracle.book[event_id].contents[-1]}")
        if self.is_standing_view and standing and due == standing:  # else the next attempt will tell
            void = {
                each
                for each in self.valid - standing
                if oracle.book[each].fate != "lost" and each > (self.start or each)
            }
            if void:
                self._fail(f"was not told that {show(sorted(void))} is void")

    def _fail(self, what: str) -> None:
        self.oracle.fail(f"{self.name} {what}")
