"""Request bodies: read up to a limit, parsed, checked for members nobody asked for.

Invariant: nothing has happened yet when one of these raises `Problem`.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar, cast

from starlette.requests import ClientDisconnect

from server.web.json_text import parse_json
from server.web.problems import MOST_ERRORS, FieldError, Problem, invalid, pointer_part, shown
from server.web.requests import AnyRequest, header_values

T = TypeVar("T")

JSON: Final = "application/json"
_LINK_INSTEAD: Final = "(REPRISE_MAX_EVENT_BYTES). Send a link to the data instead."
#: A body of a megabyte may hold half a million values, and to look at each takes a second: readers of this server must
#: not wait for that. A thread takes as long, and lets them in between.
_LARGE_BYTES: Final = 1 << 16
_CHARSETS: Final = frozenset({"utf-8", "utf8"})


async def read_object(request: AnyRequest, *, max_bytes: int, known: Collection[str]) -> dict[str, Any]:
    """The JSON object in the body, with `known` members only. No body at all is an empty object.

    Raises `Problem`: 413 above `max_bytes`, 415 for another content type or coding, 400 for what is not JSON, 422 for
    the rest.
    """
    body = await read_body(request, max_bytes=max_bytes)
    if not body:
        return {}
    check_content_type(request, JSON)
    document = await apart(request, partial(parse_json, body))
    if not isinstance(document, dict):
        raise Problem(422, f"The body must be a JSON object such as {{…}}, not {shown(document)}.")
    found = cast("dict[str, Any]", document)
    if unknown := unknown_members(found, known):
        raise invalid(*unknown)
    return found


def check_content_type(request: AnyRequest, *allowed: str) -> str:
    """The media type of the body, which is one of these. Raises `Problem` 415, also for another charset than UTF-8."""
    media_type, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    if media_type not in allowed:
        was = f"the content type is {shown(media_type)}" if media_type else "there is no content type"
        ways = " or ".join(f"'Content-Type: {each}'" for each in allowed[:2])
        raise Problem(415, f"The body must be JSON, but {was}. Send it with {ways}.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            raise Problem(
                415, f"The body must be UTF-8, but the content type says {shown(value)}. Leave the charset out."
            )
    return media_type


def _check_coding(request: AnyRequest) -> None:
    """Of a compressed body nobody knows how large it is before it has been unpacked."""
    codings = [part.strip() for value in header_values(request, "content-encoding") for part in value.split(",")]
    if other := [each for each in codings if each.lower() not in {"", "identity"}]:
        raise Problem(
            415,
            f"The body must be plain, but the content encoding is {shown(', '.join(other))}. "
            "Send it as it is, without 'Content-Encoding'.",
            headers={"accept-encoding": "identity"},
        )


async def read_body(request: AnyRequest, *, max_bytes: int, advice: str = _LINK_INSTEAD) -> bytes:
    """The body, of which no more is read than it may have.

    Raises `Problem` 413, with what to do about it, and 415 for one that is compressed or coded otherwise.
    """
    _check_coding(request)
    chunks: list[bytes] = []
    size = int(length) if (length := request.headers.get("content-length", "")).isdecimal() else 0
    if size <= max_bytes:
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    break
                chunks.append(chunk)
        except ClientDisconnect:
            raise Problem(400, "The connection ended in the middle of the body.") from None
    if size > max_bytes:
        raise Problem(413, f"The body is larger than {max_bytes} bytes {advice}")
    return b"".join(chunks)


async def apart(request: AnyRequest, look: Callable[[], T]) -> T:
    """What `look` makes of the body of this request, which takes its time if that is large. Raises what it raises."""
    length = request.headers.get("content-length", "")
    is_small = length.isdecimal() and int(length) <= _LARGE_BYTES
    return look() if is_small else await asyncio.to_thread(look)


def whole_number(value: object) -> int | None:
    """A number without a fraction: to JSON `2.0` is the same as `2`. None for anything else."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def unknown_members(found: Iterable[str], known: Collection[str], *, at: str = "#") -> list[FieldError]:
    """What to say of members that nobody asked for, of the value at this pointer; of thousands the first few."""
    unknown = (name for name in found if name not in known)
    return [_unknown_member(name, known, at) for name in islice(unknown, MOST_ERRORS)]


def _unknown_member(name: str, known: Collection[str], at: str) -> FieldError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(sorted(known))}."
    return FieldError(f"{at}/{pointer_part(name)}", f"{shown(name)} is not a member of this request. {hint}")
