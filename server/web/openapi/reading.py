"""The schemas with a name for what readers get: events in a stream, in a poll and in a page, and what is missing."""

from __future__ import annotations

from typing import Final

from server.streams.event import LOGGED_TYPES, TYPE
from server.web.openapi.shapes import BOOLEAN, Schema, answered, array, integer, moment, nullable, ref, text

#: Told to readers, never in a log, as docs/api.md has them.
_TOLD: Final = "`position`, `gap`, `stalled`, `heartbeat`"
_OWN: Final = ", ".join(f"`{each}`" for each in sorted(LOGGED_TYPES))
_ANY_ID: Final[Schema] = {"anyOf": [ref("EventId"), ref("CompositeId")]}
_DATA: Final = "Its text, as `event.data` is in a browser."

READING: Final[dict[str, Schema]] = {
    "Event": answered(
        "An event as JSON.",
        {
            "id": ref("EventId"),
            "type": text(),
            "data": text(_DATA),
            "time": nullable(moment("When it was appended.")),
        },
    ),
    "StreamEvent": answered(
        "An event of an event stream, by its fields.",
        {
            "id": {"description": "What to go on from. Left out where the event does not move the cursor.", **_ANY_ID},
            "event": text(
                f"Its type. Those of Reprise are {_OWN}, and, of what is told besides the log, {_TOLD}.",
                pattern=f"^{TYPE.pattern}$",
            ),
            "data": text("JSON by convention."),
        },
        optional=("id",),
    ),
    "PolledEvent": answered(
        "An event of a poll.",
        {
            "stream": {
                "description": "Where ids name their streams: whose event it is; null of an `attempt` without an id.",
                **nullable(ref("StreamName")),
            },
            "id": {
                "description": "Null where the event does not move the cursor.",
                "anyOf": [*_ANY_ID["anyOf"], {"type": "null"}],
            },
            "type": text(),
            "data": text(_DATA),
        },
        optional=("stream",),
    ),
    "Poll": answered(
        "What an event stream had first, for a client that cannot stream.",
        {
            "events": array(ref("PolledEvent"), "Empty if there was nothing to tell; see `more`."),
            "cursor": {"description": "What to ask again with, as `last_event_id`.", **_ANY_ID},
            "gap": nullable(ref("Gap")),
            "more": {
                **BOOLEAN,
                "description": "Whether more may be stored behind `cursor`: then ask again at once. If not, the answer "
                "reaches as far as there was anything, also where `events` is empty.",
            },
            "ended": {**BOOLEAN, "description": "Whether no more will come."},
        },
    ),
    "Gap": answered(
        "Events that are no longer there.",
        {
            "stream": ref("StreamName"),
            "requested": nullable(ref("EventId")),
            "resumed_at": nullable(ref("EventId")),
            "missed": nullable(integer("How many; null if nobody can tell.", minimum=0)),
        },
    ),
    "History": answered(
        "A page of a stream.",
        {
            "events": array(ref("Event")),
            "gap": nullable(ref("Gap")),
            "next": nullable(ref("EventId")),
            "cursor": ref("EventId"),
        },
    ),
}
