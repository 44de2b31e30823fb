"""JSON as requests may hold it: parsed strictly, and what cannot be kept or carried on is refused with its place.

Owns the rules beyond the grammar: every name once in its object, numbers that a double can hold, whole characters, a
bounded depth. Pure. Invariant: no word of Python reaches the sender.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import isinf
from typing import Any, Final, NamedTuple, cast

from server.web.problems import MOST_ERRORS, FieldError, Problem, pointer_part, shown, unreadable

#: Arrays and objects, each in the next, the outermost included. Far above what people write, and low enough for
#: everything recursive behind it.
_DEEPEST: Final = 100
#: Shorter numbers fit a double, whose largest has 309 digits.
_SAFE_DIGITS: Final = 300
_TOO_DEEP: Final = f"This is nested deeper than {_DEEPEST} levels. Use a flatter form, or send it as text."


@dataclass(frozen=True, slots=True)
class _Unusable:
    """Stands in the document for a value that cannot be used."""

    detail: str
    #: The member at fault, where it is not the value itself.
    name: str | None = None


class _Place(NamedTuple):
    """A value, and how it is reached."""

    parent: _Place | None
    step: object
    level: int
    value: object


def parse_json(body: bytes, *, first_line: int = 1, first_byte: int = 0, holds_several: bool = False) -> object:
    """The document. Raises `Problem` 400, with `errors` that point at what is JSON but cannot be used.

    `first_line` and `first_byte` say where in the body the document begins. `holds_several` says that an array is no
    value but holds them: it is no level.
    """
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_real,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        line = first_line + body.count(b"\n", 0, error.start)
        at = f"byte {first_byte + error.start}, in line {line},"
        raise Problem(400, f"The body is not UTF-8: {at} cannot be read.") from None
    except json.JSONDecodeError as error:
        line = first_line - 1 + error.lineno
        raise Problem(400, f"The body is not JSON: {_reason(error)} at line {line}, column {error.colno}.") from None
    except RecursionError:
        raise unreadable(FieldError("#", _TOO_DEEP)) from None
    if found := list(islice(_errors(document, _first_level(document) if holds_several else 1), MOST_ERRORS)):
        raise unreadable(*found)
    return document


def _first_level(document: object) -> int:
    return 0 if isinstance(document, list) else 1


def _reason(error: json.JSONDecodeError) -> str:
    if error.msg.startswith("Unexpected UTF-8 BOM"):
        return "a byte order mark stands before it"
    reason = error.msg.removesuffix(" at").rstrip(": ")
    return reason[:1].lower() + reason[1:]


def _object(pairs: list[tuple[str, Any]]) -> object:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
    return _Unusable(f"The member {shown(twice)} is there more than once. Send it once.", twice)


def _integer(text: str) -> object:
    # Python would refuse to convert thousands of digits, and few programs read what no double can hold.
    return int(text) if len(text) < _SAFE_DIGITS or not isinf(float(text)) else _too_large(text)


def _real(text: str) -> object:
    value = float(text)
    return _too_large(text) if isinf(value) else value


def _too_large(text: str) -> _Unusable:
    return _Unusable(f"The number {text[:20]}{'…' * (len(text) > 20)} is too large. The largest is about 1.8e308.")


def _constant(name: str) -> _Unusable:
    return _Unusable(f"{name} is no JSON value. Use a number or null.")


def _errors(document: object, level: int) -> Iterator[FieldError]:
    """What cannot be used, in the order of the document; without recursion, however deep that is."""
    waiting = [_Place(None, "#", level, document)]
    while waiting:
        place = waiting.pop()
        if detail := _fault_of(place.value, place.level):
            yield FieldError(_pointer(place), detail)
            continue
        inside: list[_Place] = []
        for step, each in _members(place.value):
            if isinstance(step, str) and (fault := _fault_of_text(step)):
                yield FieldError(_pointer(_Place(place, step, place.level + 1, None)), f"The name {fault}")
            if isinstance(each, (str, dict, list, _Unusable)):
                inside.append(_Place(place, step, place.level + 1, each))
        waiting.extend(reversed(inside))


def _pointer(place: _Place) -> str:
    """Made for the few at fault: beside each of a hundred thousand values it would fill the memory."""
    steps: list[str] = []
    if isinstance(place.value, _Unusable) and place.value.name is not None:
        steps.append(pointer_part(place.value.name))
    at = place
    while at.parent is not None:
        steps.append(pointer_part(at.step))
        at = at.parent
    return "/".join(["#", *reversed(steps)])


def _members(value: object) -> list[tuple[object, object]]:
    if isinstance(value, dict):
        return list(cast("dict[object, object]", value).items())
    return list(enumerate(cast("list[object]", value))) if isinstance(value, list) else []


def _fault_of(value: object, level: int) -> str | None:
    if isinstance(value, _Unusable):
        return value.detail
    if isinstance(value, str):
        fault = _fault_of_text(value)
        return f"The text {fault}" if fault else None
    return _TOO_DEEP if level > _DEEPEST else None


def _fault_of_text(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        return f"holds {half}, half of a character. Send both halves, or leave it out."
    return None
