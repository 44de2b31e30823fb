"""Compaction: less events that say the same, for a reader that comes late. Pure.

Theory of operation
-------------------
1. What is compacted is consecutive: events that follow each other in the log, as `continuity` proved. Two rules, both
   by the marks of entries (`server.streams.marks`); what neither concerns is left as it stands.
2. *Joined*: a run of events of one type of which each continues the text of the one before becomes one event, with the
   texts one behind the other, and **the id of the last one**. So an id that was sent says, as ever, that everything up
   to it was: a reader that comes back with it, compacted or not, goes on with the next piece. Any other event ends a
   run, also one that is left out: behind it another text begins.
3. *Superseded*: an event with a key is left out where a later one with the same key is to come, which `latest` says. It
   may know less than all keys: then a reader gets what the next event of the key makes void, as without compaction.
4. Reprise's own events and the end of a stream are neither: they say what stands, and where a reader may stop.
5. Texts are joined as they stand in the JSON, between the quotes, and not as what they mean. That is the same text, and
   faster; and half a surrogate pair, which JSON can hold and UTF-8 cannot, meets its other half.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from server.fanout.frames import event_frame
from server.streams.event import LOGGED_TYPES, Event
from server.streams.ids import EventId
from server.streams.marks import APPEND_FIELD, KEY_FIELD, TEXT, Mark

#: Of a joined text: as large as one write. Few things hold more, and a longer one is simply two events.
_LONGEST_TEXT: Final = 65_536
#: An object with one member, a text; both as they stand between their quotes.
_INNER: Final = r'"([^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*)"'
_ONE_TEXT: Final = re.compile(rf"[ \t\n]*\{{[ \t\n]*{_INNER}[ \t\n]*:[ \t\n]*{_INNER}[ \t\n]*\}}[ \t\n]*")
#: The type whose events continue each other without a mark.
_TOKEN: Final = "token"


class Delta(NamedTuple):
    """A piece of a text: what it continues, and the piece as it stands in the JSON."""

    type: str
    member: str
    piece: str


def key_of(event: Event, mark: Mark | None) -> str | None:
    """The key whose latest event says it all; None if the event stands for itself."""
    if mark is None or mark.field != KEY_FIELD or _is_fixed(event):
        return None
    return mark.value


def delta_of(event: Event, mark: Mark | None) -> Delta | None:
    """What the event adds to the text of the one before it; None if it is no such event."""
    if mark is None:
        member = TEXT if event.type == _TOKEN else None
    else:
        member = mark.value if mark.field == APPEND_FIELD else None
    if member is None or _is_fixed(event):
        return None
    found = _ONE_TEXT.fullmatch(event.data)
    return Delta(event.type, member, found[2]) if found and found[1] == member else None


class Compaction:
    """What is left of the events that are added, in the order of the log."""

    def __init__(self, latest: Mapping[str, EventId]) -> None:
        """`latest`: the newest event of each key, as far as it is known."""
        self._latest = latest
        self._frames: list[bytes] = []
        self._run: list[Delta] = []
        self._run_ends: Event | None = None
        self._run_size = 0
        #: Of everything that is left, about: bytes of frames, characters of a text that is being joined.
        self.size = 0

    def add(self, event: Event, mark: Mark | None) -> None:
        delta = delta_of(event, mark)
        if delta is None:
            self._end_run()
            key = key_of(event, mark)
            if key is None or self._latest.get(key, event.id) <= event.id:
                self._keep(event)
            return
        if self._run and (delta[:2] != self._run[-1][:2] or self._run_size + len(delta.piece) > _LONGEST_TEXT):
            self._end_run()
        self._run.append(delta)
        self._run_ends = event
        self._run_size += len(delta.piece)
        self.size += len(delta.piece)

    def frames(self) -> list[bytes]:
        """One for each event that is left. Nothing is added any more."""
        self._end_run()
        return self._frames

    def _end_run(self) -> None:
        run, last = self._run, self._run_ends
        if last is None:
            return
        self._run, self._run_ends = [], None
        self.size -= self._run_size
        self._run_size = 0
        if len(run) > 1:
            text = "".join([delta.piece for delta in run])
            last = last._replace(data=f'{{"{run[0].member}":"{text}"}}')
        self._keep(last)

    def _keep(self, event: Event) -> None:
        self._frames.append(event_frame(event))
        self.size += len(self._frames[-1])


def _is_fixed(event: Event) -> bool:
    return event.is_terminal or event.type in LOGGED_TYPES
