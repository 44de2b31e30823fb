"""Problem documents (RFC 9457): what a request is told that somebody has to change.

Invariant: every refusal outside an event stream has this form, with a `detail` a person can act on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

from starlette.responses import JSONResponse

#: Longer values are cut where an error text repeats them: the reader knows what was sent.
_SHOWN_CHARACTERS: Final = 64
#: Of a pointer as well: what stands a hundred levels deep has a place that nobody reads to its end.
_PLACE_CHARACTERS: Final = 64
#: Of one body. A person mends a handful at a time; thousands of errors in one document help nobody.
MOST_ERRORS: Final = 20


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one part of a body. `pointer` is a JSON Pointer as a URI fragment: `#/input/seconds`."""

    pointer: str
    detail: str


class Problem(Exception):
    """The caller's: raised by endpoints, answered with a problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers


class ProblemResponse(JSONResponse):
    """A problem document. Its type is `about:blank`: the status says what kind it is, `detail` the rest."""

    media_type = "application/problem+json"

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        document = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
        }
        super().__init__({**document, **members}, status, headers)
        self.headers.setdefault("cache-control", "no-store")


def response_of(problem: Problem) -> ProblemResponse:
    """The problem as a response."""
    members: dict[str, Any] = {}
    if problem.errors:
        members["errors"] = [{"pointer": each.pointer, "detail": each.detail} for each in problem.errors]
    return ProblemResponse(problem.status, problem.detail, headers=problem.headers, **members)


def invalid(*errors: FieldError) -> Problem:
    """A 422 about these fields."""
    return Problem(422, _told(errors), errors=errors)


def unreadable(*errors: FieldError) -> Problem:
    """A 400 about these parts of a body that is JSON and cannot be used all the same."""
    return Problem(400, f"The body cannot be read. {_told(errors)}", errors=errors)


def _told(errors: Sequence[FieldError]) -> str:
    return " ".join(f"{_shown_place(error.pointer)}: {error.detail}" for error in errors)


def _shown_place(pointer: str) -> str:
    """The pointer for an error text, as people write a path, cut if it is long: `errors` has it whole."""
    place = unquote(pointer.removeprefix("#/"))
    return place if len(place) <= _PLACE_CHARACTERS else f"{place[:_PLACE_CHARACTERS]}…"


def pointer_part(step: object) -> str:
    """One step of a JSON Pointer in a URI fragment (RFC 6901 §6), cut where somebody sent an essay as a name."""
    return quote(str(step)[:128].replace("~", "~0").replace("/", "~1"), safe="!$&'()*+,;=:@?", errors="replace")


def shown(value: object) -> str:
    """The value for an error text, cut if it is long: a text as its repr, anything else as JSON has it."""
    text = value[: _SHOWN_CHARACTERS + 1] if isinstance(value, str) else value
    found = repr(text) if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return found if len(found) <= _SHOWN_CHARACTERS + 2 else f"{found[:_SHOWN_CHARACTERS]}…"
