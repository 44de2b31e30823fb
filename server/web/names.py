"""Which stream or task the path of a request means, and whether the request may change it.

A name that no stream can have is unknown to who asks (404), and a mistake of who writes (422). Reprise's own streams
are readable by all, and written by Reprise alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.streams.errors import InvalidInput, Unknown
from server.streams.names import is_reserved, parse_stream_name, parse_task_id
from server.web.problems import Problem

if TYPE_CHECKING:
    from server.web.state import WebRequest


def stream_name_of(request: WebRequest) -> str:
    """The stream's name in the path. Raises `Unknown`."""
    try:
        return parse_stream_name(request.path_params["name"])
    except InvalidInput as error:
        raise Unknown(str(error)) from None


def changeable_stream(request: WebRequest) -> str:
    """The same of a stream that others than Reprise may change. Raises `Problem` 422 and 403."""
    try:
        name = parse_stream_name(request.path_params["name"])
    except InvalidInput as error:
        raise Problem(422, str(error)) from None
    if is_reserved(name):
        raise Problem(
            403,
            f"The stream {name!r} is Reprise's own: everybody may read it, and only Reprise writes it. "
            "Use a name other than 'system', 'tasks' and 'tasks.…'.",
        )
    return name


def task_id_of(request: WebRequest) -> str:
    """The task id in the path. Raises `Unknown`."""
    try:
        return parse_task_id(request.path_params["id"])
    except InvalidInput as error:
        raise Unknown(str(error)) from None
