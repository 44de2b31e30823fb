"""Request bodies: read up to a limit, parsed, checked for members nobody asked for.

Invariant: nothing has happened yet when one of these raises `Problem`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any, Final, cast

from starlette.requests import ClientDisconnect

from server.web.json_text import parse_json
from server.web.problems import FieldError, Problem, invalid, pointer_part, shown
from server.web.requests import AnyRequest

_CHARSETS: Final = frozenset({"utf-8", "utf8"})


async def read_object(request: AnyRequest, *, max_bytes: int, known: Collection[str]) -> dict[str, Any]:
    """The JSON object in the body, with `known` members only. No body at all is an empty object.

    Raises `Problem`: 413 above `max_bytes`, 415 for another content type, 400 for what is not JSON, 422 for the rest.
    """
    body = await _read(request, max_bytes)
    if not body:
        return {}
    _check_content_type(request.headers.get("content-type", ""))
    document = parse_json(body)
    if not isinstance(document, dict):
        raise Problem(422, f"The body must be a JSON object such as {{…}}, not {shown(document)}.")
    found = cast("dict[str, Any]", document)
    unknown = [_unknown_member(name, known) for name in found if name not in known]
    if unknown:
        raise invalid(*unknown)
    return found


def _check_content_type(header: str) -> None:
    media_type, *parameters = (part.strip().lower() for part in header.split(";"))
    if media_type != "application/json":
        was = f"the content type is {shown(media_type)}" if media_type else "there is no content type"
        raise Problem(415, f"The body must be JSON, but {was}. Send it with 'Content-Type: application/json'.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            raise Problem(
                415, f"The body must be UTF-8, but the content type says {shown(value)}. Leave the charset out."
            )


async def _read(request: AnyRequest, max_bytes: int) -> bytes:
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
        raise Problem(
            413,
            f"The body is larger than {max_bytes} bytes (REPRISE_MAX_EVENT_BYTES). Send a link to the data instead.",
        )
    return b"".join(chunks)


def _unknown_member(name: str, known: Collection[str]) -> FieldError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(sorted(known))}."
    return FieldError(f"#/{pointer_part(name)}", f"{shown(name)} is not a member of this request. {hint}")
