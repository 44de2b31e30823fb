"""Each rule of the protocol, taken out once: from a script by replacing text, from a module by replacing a function.

The product has no switches. `shrunk/` holds, for every ablation, a schedule that breaks a promise without the rule and
keeps every promise with it; `test_ablations.py` replays both.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from server.fanout.continuity import State, Verdict
from server.fanout.looks import Look
from server.fanout.standing import Standing
from server.fanout.tail import Tail
from server.streams.calls import Call, Reply, Snapshot
from server.streams.connections import execute_many
from server.streams.durability import Durability
from server.streams.event import Event
from server.streams.ids import EventId
from server.streams.log import Log
from server.streams.records import Chain, StreamRecord
from tests.model.schedule import OWNED, SHARED, Schedule
from tests.model.scripts import Cut

SHRUNK = Path(__file__).parent / "shrunk"


@dataclass(frozen=True, slots=True)
class Ablation:
    """A rule and how to take it out."""

    name: str
    family: str
    #: The rule, as docs/protocol-proof.md lists it, and what is done to it.
    rule: str
    removed: str
    cuts: Sequence[Cut] = ()
    replace: Callable[[], AbstractContextManager[Any]] = nullcontext
    #: Whether only what clients see is asked: a broken log that no client notices does not count.
    clients_only: bool = True

    def schedule(self) -> Schedule:
        """The stored schedule."""
        return tuple((SHRUNK / f"{self.name}.txt").read_text().splitlines())


@contextmanager
def _previous_believed() -> Generator[None]:
    def follows(cursor: EventId, event: Event) -> bool:
        return event.id.continues(cursor) or event.previous is not None

    with patch("server.fanout.continuity.follows", follows), patch("server.fanout.tail.follows", follows):
        yield


async def _ends_at_from_behind(self: Log, expected: Sequence[tuple[str, EventId]]) -> list[bool]:
    commands = [("XRANGE", self.keys.log(stream), str(last.next()), "+", "COUNT", 1) for stream, last in expected]
    return [not rows for rows in await execute_many(self._client, commands)]


def _newest_only(self: Standing, chain: Chain, _original: Any = Standing.__init__) -> None:
    _original(self, chain[-1:])
    self.chain = chain


def _wait_for_ever(cursor: EventId, snapshot: Snapshot, expected: EventId | None = None) -> Verdict:
    return Verdict(State.WAIT)


async def _build_once(
    self: Log,
    build: Callable[[], Call[Reply]],
    durability: Durability,
    heard: Callable[[Reply], None],
    *,
    _original: Any = Log._until_answered,
) -> None:
    call = build()
    await _original(self, lambda: call, durability, heard)


def _any_ring(self: Tail, top: EventId, event: Event) -> bool:
    return True


def _no_drop(self: Tail, snapshot: Snapshot) -> None:
    pass


def _any_terminal(event: Event, record: StreamRecord | None) -> bool:
    return event.is_terminal


async def _look_without_waking(self: Tail, cursor: EventId, _original: Any = Tail._look) -> Look:
    with patch.object(self, "wake", lambda: None):
        return await _original(self, cursor)


def _method(owner: type, name: str, replacement: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(owner, name, replacement)


_RECORD_IN_REPAIR = "status and (ENDED[status] or (owner ~= nonce and not less(known or '0', generation)))"

ABLATIONS = (
    Ablation(
        "compare",
        OWNED,
        "An append names the last id it expects",
        "the comparison",
        [Cut("append", "  if last ~= expected then\n    return { 'differs', last or NEVER_USED }\n  end\n", "")],
    ),
    Ablation(
        "record-in-repair",
        OWNED,
        "A repair looks at the record",
        "that look",
        [Cut("repair", _RECORD_IN_REPAIR, "false")],
        clients_only=False,
    ),
    Ablation(
        "generation-in-repair",
        OWNED,
        "A repair is refused where the record names a successor's generation",
        "the comparison of generations",
        [Cut("repair", "(owner ~= nonce and not less(known or '0', generation))", "false")],
        clients_only=False,
    ),
    Ablation(
        "claim-repeated",
        OWNED,
        "A claim with the same nonce gets the same answer",
        "the look at the nonce",
        [Cut("claim", "if status == 'running' and owner == nonce then", "if false then")],
        clients_only=False,
    ),
    Ablation(
        "claim-held",
        OWNED,
        "A valid lease holds off other claims",
        "the look at the lease",
        [Cut("claim", "if status == 'running' and lease_until > now then", "if false then")],
        clients_only=False,
    ),
    Ablation(
        "outage",
        OWNED,
        "An expired lease is judged only by who has been connected for one lease",
        "that condition",
        [Cut("claim", "if status == 'running' and ARGV[10] ~= '1' then", "if false then")],
        clients_only=False,
    ),
    Ablation(
        "attempt-as-generation",
        OWNED,
        "A generation is never used twice",
        "the generation: the number of the attempt instead",
        [
            Cut(
                "claim",
                "local generation = next_generation(now, random, last and halves(last) or '0', found[7] or '0')\n",
                "local generation = whole(tonumber(found[9] or '0') + 1)\n",
            )
        ],
    ),
    Ablation(
        "random-generation",
        OWNED,
        "A generation has a random part",
        "the random part: max(now, last + 1)",
        [Cut("_prelude", "return whole(highest + 1 + tonumber(random))", "return whole(highest + 1)")],
    ),
    Ablation(
        "last-generated-id",
        OWNED,
        "The log's last id is XINFO's, not that of its newest entry",
        "XINFO: XREVRANGE instead",
        [
            Cut(
                "_prelude",
                "  local last = field(info, 'last-generated-id')\n",
                "  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]\n"
                "  if not newest then\n    return nil, nil, info\n  end\n  local last = newest[1]\n",
            )
        ],
    ),
    Ablation(
        "chain",
        OWNED,
        "The chain says what stands",
        "all of it but the newest generation",
        replace=_method(Standing, "__init__", _newest_only),
    ),
    Ablation(
        "record-names-end",
        OWNED,
        "A terminal event ends a response only if the record names it",
        "the look at the record",
        replace=lambda: patch("server.fanout.continuity._ends", _any_terminal),
    ),
    Ablation(
        "contiguity",
        OWNED,
        "A ring extends the window only if it follows",
        "the check: any ring",
        replace=_method(Tail, "_continues_live", _any_ring),
    ),
    Ablation(
        "sweep",
        OWNED,
        "The sweep reads from the window's last id on, that id included",
        "that id: from behind it, as XREAD does",
        replace=_method(Log, "ends_at", _ends_at_from_behind),
    ),
    Ablation(
        "window-drop",
        SHARED,
        "A window drops what the log no longer holds",
        "the drop",
        replace=_method(Tail, "_drop_what_went_back", _no_drop),
    ),
    Ablation(
        "wake-on-look",
        SHARED,
        "A look that extends the window wakes the others",
        "the wake",
        replace=_method(Tail, "_look", _look_without_waking),
    ),
    Ablation(
        "cursor-ahead",
        SHARED,
        "A cursor ahead of the log is compared with the log's last id",
        "the comparison: the reader waits",
        replace=lambda: patch("server.fanout.continuity._nothing_after", _wait_for_ever),
    ),
    Ablation(
        "incarnation",
        SHARED,
        "Another incarnation of the server opens a generation",
        "the comparison of `r`",
        [Cut("publish", "if last and fields and field(fields, 'r') == incarnation then", "if last and fields then")],
    ),
    Ablation(
        "random-each-try",
        SHARED,
        "The random part is drawn anew for each try",
        "the drawing: one number for all tries",
        replace=_method(Log, "_until_answered", _build_once),
        clients_only=False,
    ),
    Ablation(
        "previous",
        SHARED,
        "The first event of a generation follows only what `p` names",
        "the comparison with `p`",
        replace=_previous_believed,
    ),
    Ablation(
        "lost",
        SHARED,
        "`lost` tells that the publisher had been given a later id",
        "the field",
        [Cut("publish", "    lost = known\n", "    lost = nil\n")],
    ),
    Ablation(
        "tokens",
        SHARED,
        "An append with the same token is stored once",
        "the look at the token",
        [Cut("publish", "if earlier[1] then", "if false then")],
        clients_only=False,
    ),
    Ablation(
        "closed",
        SHARED,
        "Nothing is appended behind a terminal event",
        "the look at `z`",
        [Cut("publish", "if fields and field(fields, 'z') then", "if false then")],
    ),
    Ablation(
        "deleted-entries",
        SHARED,
        "A foreign generation follows its neighbour only if nothing was deleted between them",
        "the look at XINFO's max-deleted-entry-id",
        [Cut("read", "info and field(info, 'max-deleted-entry-id') or NEVER_USED", "NEVER_USED")],
    ),
)
