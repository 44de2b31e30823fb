"""What a request for a new task says: checked member by member, against its type, and made a `NewTask`.

Invariant: nothing has happened yet when one of these raises `Problem`, and every wrong member is named at once.
"""

from __future__ import annotations

import unicodedata
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Final

from server.streams.errors import InvalidInput
from server.streams.names import parse_queue_name
from server.streams.new_task import NewTask
from server.web.bodies import apart
from server.web.inputs import check_input
from server.web.moments import moment_ms
from server.web.problems import FieldError, invalid, shown
from server.web.refusals import Busy

if TYPE_CHECKING:
    from server.streams.registry import TaskType
    from server.web.state import WebRequest

MEMBERS: Final = frozenset({"type", "input", "title", "execute", "queue", "delay", "not_before", "unique_key"})
#: Titles are for lists on a screen.
LONGEST_TITLE: Final = 200
#: Far above a UUID or an address, which is what most send.
LONGEST_KEY: Final = 255
#: A year: whoever plans further ahead has a calendar of their own, and a slip of the unit is found.
LONGEST_DELAY_SECONDS: Final = 366 * 86_400


async def new_task(request: WebRequest, body: dict[str, Any]) -> NewTask:
    """The task that the body asks for. Raises `Problem`, and `Busy` while no type is known at all."""
    checks = (_type_errors, _title_errors, _shape_errors, _queue_errors, _time_errors, _key_errors)
    if errors := [error for check in checks for error in check(body)]:
        raise invalid(*errors)
    task_type = await _known_type(request, body["type"])
    value: dict[str, Any] = body.get("input", {})
    if errors := await apart(request, partial(check_input, task_type, value)):
        raise invalid(*errors)
    return NewTask.of(
        task_type,
        value,
        max_attempts=request.state["limits"].max_attempts,
        title=body.get("title"),
        queue=body.get("queue"),
        execute=body.get("execute", True),
        unique_key=body.get("unique_key"),
        delay_ms=round(1000 * (body.get("delay") or 0)),
        not_before_ms=_moment_ms(body.get("not_before")) or 0,
    )


async def _known_type(request: WebRequest, name: str) -> TaskType:
    found = await request.state["registry"].known_type(name)
    if found:
        return found
    if await request.state["registry"].is_empty():
        raise Busy("No worker has said yet what it offers. Try again when one has started.")
    offered = {each.name: each for each in await request.state["registry"].live_types()}
    if name in offered:  # Redis was emptied, and a worker has announced itself since the first question
        return offered[name]
    hint = f"Workers offer {', '.join(offered)}." if offered else "No worker is connected."
    raise invalid(FieldError("#/type", f"There is no task type {shown(name)}. {hint}"))


def _type_errors(body: dict[str, Any]) -> list[FieldError]:
    name = body.get("type")
    if isinstance(name, str) and name:
        return []
    text = "This is required." if name is None else f"{shown(name)} does not name a task type."
    return [FieldError("#/type", f"{text} GET /task-types lists them.")]


def _title_errors(body: dict[str, Any]) -> list[FieldError]:
    title = body.get("title")
    if title is None:
        return []
    if not isinstance(title, str) or not 1 <= len(title) <= LONGEST_TITLE:
        return [FieldError("#/title", f"{shown(title)} is not a title. Use text of 1 to {LONGEST_TITLE} characters.")]
    if any(unicodedata.category(character) == "Cc" for character in title):
        return [FieldError("#/title", f"{shown(title)} has control characters. Leave them out.")]
    return []


def _shape_errors(body: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    if not isinstance(body.get("input", {}), dict):
        errors.append(FieldError("#/input", f"{shown(body['input'])} is not an object. Use {{…}}, or leave it out."))
    if not isinstance(body.get("execute", True), bool):
        errors.append(FieldError("#/execute", f"{shown(body['execute'])} is not a boolean. Use true or false."))
    return errors


def _queue_errors(body: dict[str, Any]) -> list[FieldError]:
    name = body.get("queue")
    if name is None:
        return []
    try:
        parse_queue_name(name if isinstance(name, str) else "")
    except InvalidInput as error:
        hint = str(error).partition(". ")[2]
        return [FieldError("#/queue", f"{shown(name)} does not name a queue. {hint}")]
    return []


def _key_errors(body: dict[str, Any]) -> list[FieldError]:
    key = body.get("unique_key")
    if key is None:
        return []
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY:
        return [FieldError("#/unique_key", f"{shown(key)} is not a key. Use text of 1 to {LONGEST_KEY} characters.")]
    return []


def _time_errors(body: dict[str, Any]) -> list[FieldError]:
    """What is wrong with the time at which the task is to begin."""
    delay, moment = body.get("delay"), body.get("not_before")
    name = "not_before" if delay is None else "delay"
    if delay is not None and moment is not None:
        return [FieldError("#/not_before", "There is a 'delay' besides. Use one of the two.")]
    if (delay is not None or moment is not None) and body.get("execute") is False:
        return [FieldError(f"#/{name}", "With 'execute': false the task begins when it is executed. Leave one out.")]
    if delay is not None and not _is_delay(delay):
        hint = f"Use seconds, from 0 to {LONGEST_DELAY_SECONDS} (366 days)."
        return [FieldError("#/delay", f"{shown(delay)} is not a delay. {hint}")]
    if moment is not None:
        at_ms = _moment_ms(moment)
        if at_ms is None:
            hint = "Use a time with its offset from UTC, such as '2026-11-26T18:30:00+01:00', or 'delay' in seconds."
            return [FieldError("#/not_before", f"{shown(moment)} is not a time. {hint}")]
        if at_ms > (time() + LONGEST_DELAY_SECONDS) * 1000:
            return [FieldError("#/not_before", f"{shown(moment)} is more than 366 days away. Use an earlier time.")]
    return []


def _is_delay(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_DELAY_SECONDS


def _moment_ms(value: object) -> int | None:
    """A time as ISO 8601 writes it with an offset, in ms since epoch; None for anything else. The past is time 1."""
    found = moment_ms(value) if isinstance(value, str) else None
    return None if found is None else max(1, found)
