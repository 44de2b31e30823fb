"""One method of one path as the document tells it, and what all operations have in common.

Invariant: whatever takes GET takes HEAD, as a route of Starlette does, so that HEAD is told here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from server.web.openapi.shapes import Schema

#: An object of OpenAPI that is no schema.
Told: TypeAlias = dict[str, Any]
Method: TypeAlias = Literal["get", "put", "post", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What `method` does at `path`."""

    method: Method
    path: str
    #: The name of the operation in generated clients.
    id: str
    tag: str
    summary: str
    description: str = ""
    parameters: Sequence[Told] = ()
    #: None where a body is not read.
    body: Told | None = None
    #: By status; see `answers`.
    answers: Mapping[int, Told] = field(default_factory=dict[int, Told])

    def as_json(self) -> Told:
        """The Operation Object."""
        found: Told = {"operationId": self.id, "tags": [self.tag], "summary": self.summary}
        if self.description:
            found["description"] = self.description
        if self.parameters:
            found["parameters"] = list(self.parameters)
        if self.body:
            found["requestBody"] = self.body
        found["responses"] = {str(status): told for status, told in sorted(self.answers.items())}
        return found

    def head_as_json(self) -> Told:
        """The same by HEAD: the headers alone, and nothing started for them."""
        found = self.as_json()
        found["operationId"] = f"head_{self.id}"
        found["summary"] = f"The headers of GET {self.path}"
        found["description"] = "The headers that GET answers, without a body. Nothing is started for it."
        found["responses"] = {
            status: {name: part for name, part in told.items() if name != "content"}
            for status, told in found["responses"].items()
        }
        return found


def body(
    schema: Schema, description: str, *, required: bool, examples: Mapping[str, Any], **others: tuple[Schema, Any]
) -> Told:
    """A body of JSON, with examples by name. `others` are other media types, each with a schema and an example."""
    content: Told = {"application/json": {"schema": schema, "examples": named(examples)}}
    for media_type, (other, example) in others.items():
        content[media_type] = {"schema": other, "example": example}
    return {"description": description, "required": required, "content": content}


def named(examples: Mapping[str, Any]) -> Told:
    """Examples as OpenAPI has them: by name, each in an object."""
    return {name: {"value": value} for name, value in examples.items()}
