"""The few forms of JSON Schema (2020-12) that the document is written in. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

BOOLEAN: Schema = {"type": "boolean"}


def ref(name: str) -> Schema:
    """A schema of `records`, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def text(description: str = "", **rules: Any) -> Schema:
    return _told("string", description, rules)


def integer(description: str = "", **rules: Any) -> Schema:
    return _told("integer", description, rules)


def number(description: str = "", **rules: Any) -> Schema:
    return _told("number", description, rules)


def moment(description: str = "") -> Schema:
    return _told("string", description, {"format": "date-time", "examples": ["2026-11-22T15:55:21.559Z"]})


def array(items: Schema, description: str = "", **rules: Any) -> Schema:
    return _told("array", description, {"items": items, **rules})


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if "type" in schema and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def answered(description: str, members: dict[str, Schema], *, optional: Collection[str] = ()) -> Schema:
    """An object of an answer. A later release may add members to it."""
    required = [name for name in members if name not in optional]
    return _told("object", description, {"properties": members, "required": required})


def asked(description: str, members: dict[str, Schema], *, required: Collection[str] = (), **rules: Any) -> Schema:
    """An object of a request: a member that is not known is refused."""
    found = {"properties": members, "additionalProperties": False, **rules}
    return _told("object", description, {**found, "required": list(required)} if required else found)


def _told(kind: str, description: str, rules: dict[str, Any]) -> Schema:
    found: Schema = {"type": kind, **rules}
    return {"description": description, **found} if description else found
