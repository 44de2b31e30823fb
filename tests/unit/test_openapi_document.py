"""The OpenAPI document is one, tells of every route, and holds what it shows against what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import pytest
from httpx_sse._decoders import SSEDecoder
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Mount, Route

from server.streams.cursor import parse_composite
from server.streams.dead_letters import details, summary
from server.streams.records import Status, TaskRecord
from server.web import new_task
from server.web.open_streams import drafts, manage
from server.web.openapi.document import document, operations
from server.web.routes import routes
from tests.support.openapi import faults

DOCUMENT = document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


class Example(NamedTuple):
    where: str
    schema: dict[str, Any]
    value: Any


def operation_objects() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, told in item.items():
            yield path, method, told


def events_in(text: str) -> list[dict[str, Any]]:
    """The events of a response, by their fields."""
    decoder = SSEDecoder()
    found = [event for line in text.split("\n") if (event := decoder.decode(line))]
    assert found
    return [
        {"event": each.event, "data": each.data} | ({"id": each.id} if each.id else {}) for each in found if each.data
    ]


def examples() -> Iterator[Example]:
    """Every example that stands beside a schema, and every one inside of a schema."""

    def walk(where: str, found: Any) -> Iterator[Example]:
        if isinstance(found, list):
            for number, each in enumerate(cast("list[Any]", found)):
                yield from walk(f"{where}/{number}", each)
        if not isinstance(found, dict):
            return
        members = cast("dict[str, Any]", found)
        if "schema" in members:
            shown = [each["value"] for each in members.get("examples", {}).values()]
            shown += [members["example"]] if "example" in members else []
            if where.endswith("/text/event-stream"):
                shown = [event for each in shown for event in events_in(each)]
            yield from (Example(where, members["schema"], each) for each in shown)
        elif isinstance(values := members.get("examples"), list) and "type" in members:
            yield from (Example(where, members, each) for each in cast("list[Any]", values))
        for name, each in members.items():
            yield from walk(f"{where}/{name}", each)

    return walk("", DOCUMENT)


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_is_in_the_document_and_the_other_way_round() -> None:
    of_routes: set[tuple[str, str]] = set()
    for route in routes():
        if isinstance(route, Mount):
            of_routes |= {(f"{route.path}/{{file}}", "GET"), (f"{route.path}/{{file}}", "HEAD")}
        else:
            assert isinstance(route, Route)
            of_routes |= {(route.path, method) for method in route.methods or ()}
    assert of_routes == {(path, method.upper()) for path, method, _ in operation_objects()}


def test_every_parameter_of_a_path_is_told() -> None:
    for path, method, told in operation_objects():
        parameters = {each["name"] for each in told.get("parameters", ()) if each["in"] == "path"}
        assert parameters == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [told["operationId"] for _, _, told in operation_objects()]
    assert sorted(names) == sorted(set(names))
    assert len(operations()) == sum(method != "head" for _, method, _ in operation_objects())


@pytest.mark.parametrize("example", list(examples()), ids=lambda each: each.where)
def test_an_example_fits_its_schema(example: Example) -> None:
    assert faults(example.schema, example.value) == []


def parameter_examples(told: dict[str, Any]) -> list[Any]:
    """What a program takes that makes a request of examples."""
    schema = told["schema"]
    return [*told.get("examples", []), *schema.get("examples", []), *schema.get("enum", [])]


def test_at_most_one_of_the_places_to_begin_at_has_an_example() -> None:
    """Together they are refused."""
    for path, method, told in operation_objects():
        places = [each for each in told.get("parameters", []) if each["name"] in {"from", "last", "since"}]
        assert len([each for each in places if parameter_examples(each)]) <= 1, (path, method)


def test_the_cursor_and_the_streams_of_the_examples_fit_each_other() -> None:
    parameters = {each["name"]: each for each in DOCUMENT["paths"]["/events"]["get"]["parameters"]}
    [streams] = parameter_examples(parameters["stream"])
    for name in ("Last-Event-ID", "last_event_id", "lastEventId"):
        [cursor] = parameter_examples(parameters[name])
        assert set(parse_composite(cursor, streams)) == set(streams)


def test_whatever_takes_a_body_tells_that_it_must_not_be_compressed() -> None:
    for _, _, told in operation_objects():
        if "requestBody" in told:
            assert "Accept-Encoding" in told["responses"]["415"]["headers"]


def test_every_answer_that_holds_something_and_every_body_has_an_example() -> None:
    without = [
        (path, method, media_type)
        for path, method, told in operation_objects()
        for part in [*told["responses"].values(), *([told["requestBody"]] if "requestBody" in told else [])]
        for media_type, media in part.get("content", {}).items()
        if media_type in {"application/json", "application/problem+json", "text/event-stream"}
        if "example" not in media and "examples" not in media
    ]
    assert without == [("/openapi.json", "get", "application/json")]


def test_every_refusal_is_a_problem_document_but_those_of_ranges() -> None:
    """A file of the page is answered by the library, which tells of a wrong `Range` in words."""
    others = {
        (path, status)
        for path, method, told in operation_objects()
        for status, answer in told["responses"].items()
        if method != "head" and status >= "400" and list(answer["content"]) != ["application/problem+json"]
    }
    assert others == {(path, status) for path in ("/", "/docs", "/console/{file}") for status in ("400", "416")}


def test_what_touches_redis_tells_that_it_may_be_away() -> None:
    spared = {"/", "/docs", "/console/{file}", "/openapi.json", "/health/live", "/metrics"}
    told = {path for path, _, operation in operation_objects() if "503" in operation["responses"]}
    assert told == set(DOCUMENT["paths"]) - spared


def test_requests_have_the_members_that_the_server_knows() -> None:
    assert set(SCHEMAS["NewTask"]["properties"]) == new_task.MEMBERS
    assert set(SCHEMAS["StreamSettings"]["properties"]) == set(manage.SETTINGS)
    alternatives = SCHEMAS["NewEvent"]["anyOf"]
    assert {name for each in alternatives for name in each["properties"]} == set(drafts.MEMBERS)


def test_a_task_and_a_dead_letter_have_the_members_that_are_told() -> None:
    values = {"status": "failed", "created_at": "1795362921771", "updated_at": "1795362921771"}
    values |= {"ended_at": "1795362921771", "last_id": "1795362921771-2", "end": '{"error":"No.","code":"task_failed"}'}
    values |= {"errors": '{"attempt":1,"error":"No.","code":"task_failed","at":1795362921771}'}
    record = TaskRecord("k5x2", Status.FAILED, values)
    assert faults(SCHEMAS["Task"], record.as_json() | {"workers": None}) == []
    assert faults(SCHEMAS["DeadLetter"], summary(record)) == []
    assert faults(SCHEMAS["DeadLetterDetails"], details(record)) == []
