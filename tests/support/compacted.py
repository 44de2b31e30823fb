"""What a page makes of a stream: texts that grow, the latest of each key, everything else as it came.

Two readings of one stream are worth the same if they come to the same `View`, however few events one of them took.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from httpx_sse import ServerSentEvent

from server.fanout.frames import event_frame
from server.streams.event import Event
from server.streams.marks import Mark
from tests.support.frames import decode


@dataclass
class View:
    """The state of a page."""

    #: By type; in UTF-16, for a piece may end in the middle of a character.
    texts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    latest: dict[str, str] = field(default_factory=dict[str, str])
    others: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    def take(self, events: Iterable[ServerSentEvent], marks: Mapping[str, Mark]) -> View:
        for event in events:
            mark = marks.get(event.id)
            text = text_of(event.data)
            if mark is not None and mark.field == "k":
                self.latest[mark.value] = event.data
            elif text is not None and (mark is not None or event.event == "token"):
                self.texts[event.event] = self.texts.get(event.event, b"") + text.encode("utf-16-le", "surrogatepass")
            else:
                self.others.append((event.id, event.event, event.data))
        return self


def text_of(data: str) -> str | None:
    """The text if the data is one and nothing else."""
    try:
        found: Any = json.loads(data)
    except ValueError:
        return None
    match found:
        case {"text": str(text)} if len(found) == 1:
            return text
        case _:
            return None


def sent(events: Iterable[Event]) -> list[ServerSentEvent]:
    """The events as a reader gets them that asks for no compaction."""
    return decode(*map(event_frame, events))
