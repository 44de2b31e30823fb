"""The events in the body of a publish: one object, an array of them, or one on each line.

Owns what a member may hold. Invariant: of a body with anything wrong nothing becomes an event, and what is wrong is
named by the number of its event. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from server.streams.errors import InvalidInput, TooLarge
from server.streams.event import Draft, draft, draft_text
from server.streams.marks import continuing, keyed
from server.streams.outbox import MAX_BATCH_EVENTS
from server.web.bodies import unknown_members
from server.web.json_text import parse_json
from server.web.problems import MOST_ERRORS, FieldError, Problem, invalid, shown, unreadable

#: What an event is that says nothing of its type: as a browser calls it, and what `onmessage` gets.
USUAL_TYPE: Final = "message"
MEMBERS: Final = ("type", "data", "key", "append")


@dataclass(frozen=True, slots=True)
class _TooLarge:
    """An event that would be one, were it smaller."""

    at: str
    detail: str


def drafts_in(body: bytes, *, is_lines: bool, max_bytes: int) -> list[Draft]:
    """The events. Raises `Problem`: 400 for what is not JSON, 422 for what is no event, 413 for too much."""
    documents, is_one = (_lines(body), False) if is_lines else _members(body)
    if not documents:
        raise Problem(422, "The body holds no event. Send at least one.")
    if len(documents) > MAX_BATCH_EVENTS:
        raise Problem(413, f"The body holds {len(documents)} events, of {MAX_BATCH_EVENTS} at most. Send several.")
    drafts, errors, large = list[Draft](), list[FieldError](), list[_TooLarge]()
    for number, document in enumerate(documents):
        found = _event(document, "#" if is_one else f"#/{number}", max_bytes)
        if isinstance(found, Draft):
            drafts.append(found)
        elif isinstance(found, _TooLarge):
            large.append(found)
        else:
            errors += found
            if len(errors) >= MOST_ERRORS:
                break
    if errors:
        raise invalid(*errors[:MOST_ERRORS])
    if large:
        told = [FieldError(each.at, each.detail) for each in large[:MOST_ERRORS]]
        raise Problem(413, " ".join(each.detail for each in told), errors=told)
    return drafts


def _members(body: bytes) -> tuple[Sequence[object], bool]:
    """The events of a document, and whether it is one that stands by itself."""
    if not body.strip():
        raise Problem(400, 'The body is empty. Send an event such as {"type": "note", "data": {"text": "Hello"}}.')
    document = parse_json(body, holds_several=True)
    if isinstance(document, list):
        return cast("list[object]", document), False
    return [document], True


def _lines(body: bytes) -> Sequence[object]:
    """The events of a document of lines; empty ones are none."""
    lines, at = list[tuple[int, int, bytes]](), 0
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            lines.append((number, at, line))
        at += len(line) + 1
    if len(lines) > MAX_BATCH_EVENTS:
        return lines  # too many: none of them need be read for that
    return [_line(place, *each) for place, each in enumerate(lines)]


def _line(place: int, number: int, at: int, line: bytes) -> object:
    try:
        return parse_json(line, first_line=number, first_byte=at)
    except Problem as problem:
        if not problem.errors:
            raise Problem(400, problem.detail, errors=[FieldError(f"#/{place}", problem.detail)]) from None
        within = [FieldError(f"#/{place}{each.pointer.removeprefix('#')}", each.detail) for each in problem.errors]
        raise unreadable(*within) from None


def _event(document: object, at: str, max_bytes: int) -> Draft | _TooLarge | list[FieldError]:
    if not isinstance(document, dict):
        return [FieldError(at, f'{shown(document)} is no event. Send an object such as {{"type": …, "data": …}}.')]
    members = cast("dict[str, Any]", document)
    errors = unknown_members(members, MEMBERS, at=at)
    if not members:
        errors.append(FieldError(at, "An empty object is no event. It needs 'type', 'data' or 'append'."))
    if "append" in members:
        errors += [
            FieldError(f"{at}/{other}", f"An event has {other!r} or 'append'; with 'append' leave {other!r} out.")
            for other in ("data", "key")
            if other in members
        ]
    return errors or _draft(members, at, max_bytes)


def _draft(members: dict[str, Any], at: str, max_bytes: int) -> Draft | _TooLarge | list[FieldError]:
    """The draft of an event whose members may be there; or what is wrong with the first that is not right."""
    member = "type"
    try:
        event_type = _text(members.get("type", USUAL_TYPE), what="an event type")
        draft_text(event_type, "", max_bytes=max_bytes)
        if "append" in members:
            member = "append"
            text = _text(members["append"], what="text to be appended")
            return continuing(event_type, text, max_bytes=max_bytes)
        member, data = "data", members.get("data")
        if isinstance(data, str):
            found = draft_text(event_type, _text(data, what="text"), max_bytes=max_bytes)
        else:
            found = draft(event_type, data, max_bytes=max_bytes)
        member = "key"
        return keyed(found, _text(members["key"], what="the key of an event")) if "key" in members else found
    except TooLarge as error:
        return _TooLarge(f"{at}/{member}", str(error))
    except InvalidInput as error:
        return [FieldError(f"{at}/{member}", str(error))]


def _text(value: object, *, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{shown(value)} is not {what}.")
    if "\0" in value:
        raise InvalidInput(f"{shown(value)} holds NUL, which no reader could be sent. Leave it out.")
    return value
