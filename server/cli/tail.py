"""`reprise tail`: follows streams on a terminal, over as many connections as it takes.

Invariant: the cursor that is told at the end is that of the last event that was shown, so going on from there repeats
and misses nothing.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Final, cast

import httpx

from server.cli.decoding import Received
from server.cli.follow import SILENCE_SECONDS, TERMINAL, NoMore, follow
from server.cli.interrupts import Interrupts
from server.cli.notes import Notes, leave_stdout
from server.cli.printing import TOLD, Printer, Style
from server.cli.screen import parsed
from server.cli.server import INTERRUPTED, NOBODY, UNREAD, Misused, Unreachable, server_at
from server.cli.targets import Begin, Target, target_of
from server.streams.event import RESERVED_TYPES

#: So many are missed before a connection counts as dead.
_HEARTBEATS: Final = 3


@dataclass(frozen=True, slots=True)
class How:
    """What the command was told besides what to follow."""

    begin: Begin
    style: Style = "text"
    #: How often the server is said to send something; None for its default.
    heartbeat_seconds: float | None = None


def tail(names: list[str], *, url: str, how: How) -> int:
    """Show what there is and what comes, until the end of all; returns the exit code.

    Raises `Refused`, `Unreachable` and `Misused`.
    """
    if how.heartbeat_seconds is not None and not 0 < how.heartbeat_seconds < 86400:
        raise Misused(f"--heartbeat is {how.heartbeat_seconds!r}. Use what REPRISE_HEARTBEAT_SECONDS is there.")
    target = target_of(names, how.begin, server=url)
    with server_at(target.server, Misused) as http, Notes() as notes:
        following = _Following(target, how, notes)
        try:
            with Interrupts() as interrupts:
                following.run(http, interrupts)
        except NoMore:
            if following.cursor == target.cursor:
                notes.note("nothing more comes: this has ended, or was deleted")
        except httpx.ConnectError:
            raise Unreachable(NOBODY.format(target.server)) from None
        except KeyboardInterrupt:
            notes.tell(_how_to_go_on(names, url, how, following.cursor))
            return INTERRUPTED
        except BrokenPipeError:
            leave_stdout()
            return UNREAD
    return 0


class _Following:
    """One run; `cursor` is that of the last event that was shown."""

    def __init__(self, target: Target, how: How, notes: Notes) -> None:
        self.cursor = target.cursor
        self._target = target
        self._how = how
        self._notes = notes
        self._printer = Printer(how.style, target.streams, how.begin.types)
        self._open = set(target.streams)

    def run(self, http: httpx.Client, interrupts: Interrupts) -> None:
        """Show everything to the end. Raises as `follow` does."""
        heartbeat = self._how.heartbeat_seconds
        events = follow(
            http,
            self._target.url,
            self._notes.note,
            cursor=self.cursor,
            is_end=self._is_end,
            silence_seconds=SILENCE_SECONDS if heartbeat is None else _HEARTBEATS * heartbeat,
            is_known=False,
        )
        for received in events:
            with interrupts.held():
                if received.type in TOLD:
                    self._notes.note(_told(self._printer.stream_of(received), received))
                self._printer.show(received, is_own=received.type in RESERVED_TYPES)
                self.cursor = received.id

    def _is_end(self, received: Received) -> bool:
        """Whether it ends the last of the streams. Where the address names none, only the server can tell."""
        if received.type not in TERMINAL:
            return False
        if not self._open:
            return "," not in received.id  # which has the position in each stream of the response
        self._open.discard(self._printer.stream_of(received) or "")
        return not self._open


def _told(stream: str | None, received: Received) -> str:
    data = parsed(received.data)
    members = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    name = stream or "the stream"
    if received.type == "gap":
        missed = members.get("missed")
        count = "an unknown number of" if missed is None else str(missed)
        return f"gap: {count} events of {name} are missing here, after {members.get('requested') or 'its beginning'}"
    if members.get("reason") == "retry":
        return f"stalled: {name} goes on at {members.get('not_before')}, for its attempt failed: {members.get('error')}"
    return f"stalled: nobody writes {name} since {members.get('since')}; waiting for its worker or another one"


def _how_to_go_on(names: list[str], url: str, how: How, cursor: str) -> str:
    """The command that shows the rest; without a cursor nothing was shown yet."""
    words = ["reprise", "tail", *names]
    if any("://" not in name for name in names):
        words += ["--url", url]
    for each in how.begin.types:
        words += ["--type", each]
    if how.begin.is_compact:
        words.append("--compact")
    if how.style != "text":
        words.append(f"--{how.style}")
    if how.heartbeat_seconds is not None:
        words += ["--heartbeat", f"{how.heartbeat_seconds:g}"]
    if not cursor:
        return "Interrupted before anything had come."
    return f"Interrupted. To go on from here: {shlex.join([*words, '--from', cursor])}"
