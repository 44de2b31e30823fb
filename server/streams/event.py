"""Events, and the entries of the log that hold them.

Owns the rules for types and text, and the codec between an `Event` and its Redis Stream fields. Pure.
Fields: `e` type, `d` data, `t` ms since epoch; `p` the log's last id before a generation's first event; `lost` a later
id its publisher had been given; `z` set on a terminal event. (`r`, the server's incarnation, is the scripts' affair.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from server.streams.errors import InvalidInput, TooLarge
from server.streams.ids import EventId, decode_event_id, parse_event_id

TYPE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: More than any clock gives; Python refuses to convert thousands.
_TIME_DIGITS: Final = 15
_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _keep_c_encoder() -> Callable[[object, int], Iterable[str]] | None:
    """What `_JSON` makes anew for each value, which takes longer than to encode one; None where there is no such thing.

    It is not told to look for circles, of which it would have to forget what it saw in a value that it gave up.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    try:
        return make(None, _JSON.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    except TypeError:  # no part of the library's interface: another Python may have another one, or none
        return None


_C_ENCODER: Final = _keep_c_encoder()

ATTEMPT: Final = "attempt"
CHECKPOINT: Final = "checkpoint"
COMPLETE: Final = "complete"
ERROR: Final = "error"
CANCELLED: Final = "cancelled"

#: Written into logs by Reprise alone.
LOGGED_TYPES: Final = frozenset({ATTEMPT, CHECKPOINT, COMPLETE, ERROR, CANCELLED})
#: Told to readers, never in a log.
TOLD_TYPES: Final = frozenset({"position", "gap", "stalled", "heartbeat", "open"})
RESERVED_TYPES: Final = LOGGED_TYPES | TOLD_TYPES


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that has no id yet: what a writer hands to the log."""

    type: str
    data: str


class Event(NamedTuple):
    """One event of a stream, as it stands in the log. A tuple, because one is made for every event that passes."""

    id: EventId
    type: str
    #: Text with LF line ends, JSON by convention.
    data: str
    #: When the writer appended it, ms since epoch; None from a foreign writer that does not say.
    at_ms: int | None = None
    #: Set on the first event of a generation: the log's last id before it.
    previous: EventId | None = None
    #: Set with `previous` if the publisher had been given a later id, which Redis has lost since.
    lost: EventId | None = None
    #: Whether the stream ends with it.
    is_terminal: bool = False


#: What the readers of a stream get as its end when it is deleted.
DELETED_END: Final = Draft(CANCELLED, '{"reason":"deleted"}')


def deleted_end(event_id: EventId) -> Event:
    """The end of a deleted stream, which stands in no log."""
    return Event(event_id, DELETED_END.type, DELETED_END.data, is_terminal=True)


def draft(event_type: str, data: object, *, max_bytes: int) -> Draft:
    """Encode what a task emits or a service publishes.

    `data` becomes compact JSON. Raises `InvalidInput` for a reserved or malformed type and for data that JSON cannot
    hold, `TooLarge` above `max_bytes` of UTF-8.
    """
    try:
        _check_emitted(event_type)
    except TypeError:  # not even text; to look before would cost every event
        raise _not_a_type(event_type) from None
    return Draft(event_type, check_size(encode_json(data, what=f"The data of {event_type!r}"), max_bytes=max_bytes))


def draft_text(event_type: str, text: str, *, max_bytes: int) -> Draft:
    """The same for text that is sent as it stands; its line ends become LF."""
    _check_emitted(event_type)
    return Draft(event_type, check_size(normal_text(text), max_bytes=max_bytes))


@lru_cache(maxsize=1024)  # a task emits the same few types over and over; what is refused is not kept
def _check_emitted(event_type: str) -> None:
    check_type(event_type)
    if event_type in RESERVED_TYPES:
        raise InvalidInput(f"The event type {event_type!r} is Reprise's own. Choose another name.")


def check_type(event_type: str) -> str:
    """Return the type if readers accept it; raise `InvalidInput` otherwise."""
    if TYPE.fullmatch(event_type):
        return event_type
    raise _not_a_type(event_type)


def _not_a_type(found: object) -> InvalidInput:
    shown = repr(found[:64] if isinstance(found, str) else found)
    return InvalidInput(f"{shown:.80} is not an event type. Use 1 to 128 of A-Z a-z 0-9 . _ : -")


def check_text(found: object, *, what: str) -> str:
    """Return what is text; raise `InvalidInput`, naming `what`, for anything else that a caller passed instead."""
    if isinstance(found, str):
        return found
    raise InvalidInput(f"{what} is {found!r:.80}, which is no text. Use str().")


def check_size(data: str, *, max_bytes: int, what: str = "The event's data") -> str:
    """Return the data if it fits; raise `TooLarge` otherwise."""
    size = len(data) if data.isascii() else len(data.encode())
    if size <= max_bytes:
        return data
    raise TooLarge(
        f"{what} is {size} bytes; the limit is {max_bytes} (REPRISE_MAX_EVENT_BYTES). "
        "Split it, or store it elsewhere and send a link."
    )


def encode_json(value: object, *, what: str) -> str:
    """Compact JSON of `value`; raises `InvalidInput`, naming `what`, if JSON cannot hold it."""
    try:
        text = _to_json(value)
        if not text.isascii():
            text.encode()  # half a surrogate pair is text to Python, and cannot be sent
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} cannot be written as JSON: {error}.") from None
    return text


def _to_json(value: object) -> str:
    if _C_ENCODER is None:
        return _JSON.encode(value)
    try:
        return "".join(_C_ENCODER(value, 0))
    except RecursionError:
        return _JSON.encode(value)  # says whether it is a circle or only deep


def normal_text(text: str) -> str:
    """The text as SSE can carry it: a bare CR ends a line there, so CR and CRLF become LF.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decode_entry(raw_id: bytes, fields: Sequence[bytes]) -> Event:
    """The event in a raw entry. What a foreign writer left out or broke is mended, never refused: it is in the log."""
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    event_type = found.get(b"e", b"message").decode(errors="replace")
    at = found.get(b"t", b"")
    return Event(
        decode_event_id(raw_id),
        event_type if TYPE.fullmatch(event_type) else "message",
        normal_text(found.get(b"d", b"").decode(errors="replace")),
        int(at) if at.isdigit() and len(at) <= _TIME_DIGITS else None,
        _optional_id(found.get(b"p")),
        _optional_id(found.get(b"lost")),
        b"z" in found,
    )


def decode_entries(rows: Iterable[Any]) -> tuple[Event, ...]:
    """The events of an XRANGE reply in RESP2 shape."""
    return tuple(decode_entry(raw_id, fields) for raw_id, fields in rows)


def _optional_id(raw: bytes | None) -> EventId | None:
    try:
        return parse_event_id(raw.decode()) if raw else None
    except ValueError:
        return None
