"""Request bodies: read up to a limit, parsed strictly, checked for members nobody asked for.

Invariant: nothing has happened yet when one of these raises `Problem`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from typing import Any, NoReturn, cast

from starlette.requests import ClientDisconnect

from server.web.problems import FieldError, Problem, invalid, shown
from server.web.requests import AnyRequest


async def read_object(request: AnyRequest, *, max_bytes: int, known: Collection[str]) -> dict[str, Any]:
    """The JSON object in the body, with `known` members only. No body at all is an empty object.

    Raises `Problem`: 413 above `max_bytes`, 415 for another content type, 400 for what is not JSON, 422 for the rest.
    """
    body = await _read(request, max_bytes)
    if not body:
        return {}
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        was = f"the content type is {shown(media_type)}" if media_type else "there is no content type"
        raise Problem(415, f"The body must be JSON, but {was}. Send it with 'Content-Type: application/json'.")
    document = _parse(body)
    if not isinstance(document, dict):
        raise Problem(422, f"The body must be a JSON object such as {{…}}, not {shown(document)}.")
    found = cast("dict[str, Any]", document)
    unknown = [_unknown_member(name, known) for name in found if name not in known]
    if unknown:
        raise invalid(*unknown)
    return found


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


def _parse(body: bytes) -> object:
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Problem(400, f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem(400, f"The body is not JSON: {error.msg} at {where}.") from None
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"The body cannot be read as JSON: {error}.") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _unknown_member(name: str, known: Collection[str]) -> FieldError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(sorted(known))}."
    return FieldError(f"#/{pointer_part(name)}", f"{shown(name)} is not a member of this request. {hint}")


def pointer_part(name: object) -> str:
    """One step of a JSON Pointer, cut where somebody sent an essay as a name."""
    return str(name)[:128].replace("~", "~0").replace("/", "~1")
