"""The OpenAPI document as tests need it: closed, so that an answer may have no member that it does not tell of."""

from __future__ import annotations

from typing import Any, cast

from jsonschema import Draft202012Validator

from server.web.openapi.document import document


def closed(found: Any) -> Any:
    """The same with objects of answers that have the members that are told and no others.

    For clients they are open, so that a later release may add to them.
    """
    if isinstance(found, list):
        return [closed(each) for each in cast("list[Any]", found)]
    if not isinstance(found, dict):
        return found
    members = {name: closed(each) for name, each in cast("dict[str, Any]", found).items()}
    if members.get("type") == "object" and "properties" in members:
        members.setdefault("additionalProperties", False)
    return members


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with a value, members that the schema does not tell of included."""
    whole = closed({**schema, "components": document()["components"]})
    validator: Any = Draft202012Validator(whole)
    return [error.message for error in validator.iter_errors(value)]
