"""Task inputs against the JSON Schema that a worker published, whatever language it is written in.

Compiled validators are kept by the schema's text. A schema cannot make the server fetch anything: references lead
within the schema or nowhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Final, cast

import referencing.exceptions
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from server.streams.registry import TaskType
from server.web.problems import MOST_ERRORS, FieldError, pointer_part, shown

_logger = logging.getLogger(__name__)

#: The texts of jsonschema repeat the offending value, however large.
_LONGEST_DETAIL: Final = 300


def check_input(task_type: TaskType, value: dict[str, Any]) -> list[FieldError]:
    """What is wrong with the input of a task, field by field; empty if nothing is."""
    try:
        validator = _validator(json.dumps(task_type.input_schema, sort_keys=True))
        found = list(islice(_errors(validator, value), MOST_ERRORS))
    except (SchemaError, referencing.exceptions.Unresolvable) as error:
        _logger.warning("The input schema of task type %r does not work: %s", task_type.name, error)
        return [FieldError("#/type", f"The input schema of {task_type.name!r} does not work; its worker must mend it.")]
    except RecursionError:
        return [FieldError("#/input", "This is nested too deeply to be checked. Use a flatter form.")]
    return sorted(found, key=lambda each: each.pointer)


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Validator:
    schema = json.loads(schema_text)
    kind = validator_for(schema, default=Draft202012Validator)
    kind.check_schema(schema)
    return kind(schema, registry=Registry())


def _errors(validator: Validator, value: dict[str, Any]) -> Iterator[FieldError]:
    for error in validator.iter_errors(value):
        yield _field_error(error)


def _field_error(error: ValidationError) -> FieldError:
    steps: list[object] = ["input", *error.absolute_path]
    missing = _missing_member(error)
    if missing is not None:
        steps.append(missing)
        text = "This is required."
    else:
        text = _text(error)
        text = f"{text[:_LONGEST_DETAIL]}…" if len(text) > _LONGEST_DETAIL else f"{text}."
    return FieldError("#/" + "/".join(pointer_part(step) for step in steps), text)


def _text(error: ValidationError) -> str:
    """What is wrong, with values as JSON has them: the library writes those of Python."""
    value, wanted = cast("Any", error.instance), cast("Any", error.validator_value)
    match cast("str | None", error.validator):
        case "enum":
            return f"{shown(value)} is not one of {json.dumps(wanted, ensure_ascii=False)}"
        case "const":
            return f"{shown(value)} is not {json.dumps(wanted, ensure_ascii=False)}, the only value that fits"
        case "oneOf":
            return f"{shown(value)} does not fit exactly one of the given schemas"
        case "not":
            return f"{shown(value)} is what the schema excludes"
        case "items" | "unevaluatedItems":
            return f"{shown(value)} has more items than the schema allows"
        case None:
            return f"{shown(value)} stands where the schema allows nothing"
        case _:
            text, own = error.message, repr(value)
            return shown(value) + text[len(own) :] if text.startswith(own) else text


def _missing_member(error: ValidationError) -> str | None:
    """The member that `required` misses, so that the error can point at it."""
    if error.validator != "required":
        return None
    instance = cast("dict[str, Any]", error.instance)
    wanted = cast("list[str]", error.validator_value)
    # One error per missing member, in the order of the schema, each with the name in its message.
    named = [name for name in wanted if name not in instance and error.message.startswith(repr(name))]
    return named[0] if named else None
