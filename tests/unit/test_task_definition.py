"""What `@task` makes of a function: its name, schema, arguments, and the sentences for functions it cannot offer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from server.streams.errors import InvalidInput
from workers import Backoff, Context, SyncContext, task
from workers.definition import InvalidTask, TaskDefinition, define, definition_of
from workers.policy import Policy


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Page(BaseModel):
    title: str
    tags: list[str] = []


@task("render", max_attempts=5)
async def render(
    ctx: Context,
    page: Page,
    copies: Annotated[int, Field(ge=1, le=9, description="How many.")],
    size: Size = Size.SMALL,
    due: date | None = None,
    mode: Literal["draft", "final"] = "draft",
) -> None:
    """Render a page
    to paper.

    Slowly.
    """


@task("plain")
def plain(ctx: SyncContext) -> None:
    pass


@task("shadowing")
async def shadowing(ctx: Context, copy: str, json: str = "", model_config: int = 0, schema: bool = False) -> None:
    pass


def defined(function: Callable[..., Any]) -> TaskDefinition:
    found = definition_of(function)
    assert found
    return found


def test_the_schema_is_closed_and_says_what_the_signature_says() -> None:
    schema = defined(render).input_schema
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["page", "copies"]
    assert schema["properties"]["copies"] == {
        "description": "How many.",
        "maximum": 9,
        "minimum": 1,
        "title": "Copies",
        "type": "integer",
    }
    assert schema["properties"]["mode"]["enum"] == ["draft", "final"]
    assert schema["$defs"]["Page"]["required"] == ["title"]


def test_the_first_paragraph_of_the_docstring_is_the_description() -> None:
    assert defined(render).description == "Render a page to paper."
    assert defined(plain).description == ""


def test_what_is_published_is_what_was_decorated() -> None:
    published = defined(render).task_type()
    assert (published.name, published.max_attempts) == ("render", 5)
    assert published.input_schema == defined(render).input_schema


def test_a_decorated_function_can_still_be_called() -> None:
    assert plain.__name__ == "plain"
    assert defined(plain).function is plain
    assert (defined(plain).is_async, defined(render).is_async) == (False, True)


def test_arguments_have_the_types_of_the_signature() -> None:
    found = defined(render).arguments('{"page":{"title":"A"},"copies":2,"size":"large","due":"2026-11-22"}')
    assert found == {
        "page": Page(title="A"),
        "copies": 2,
        "size": Size.LARGE,
        "due": date(2026, 11, 22),
        "mode": "draft",
    }


def test_parameters_may_be_named_like_parts_of_pydantic() -> None:
    schema = defined(shadowing).input_schema
    assert list(schema["properties"]) == ["copy", "json", "model_config", "schema"]
    arguments = defined(shadowing).arguments('{"copy":"x","schema":true}')
    assert arguments == {"copy": "x", "json": "", "model_config": 0, "schema": True}


@pytest.mark.parametrize(
    ("input_json", "reason"),
    [
        ('{"copies":0,"page":{"title":"A"}}', "copies: Input should be greater than or equal to 1"),
        ('{"copies":1}', "page: Field required"),
        ('{"copies":1,"page":{"title":7}}', "page.title: Input should be a valid string"),
        ('{"copies":1,"page":{"title":"A"},"more":1}', "more: Extra inputs are not permitted"),
        ("[]", "the input: Input should be an object"),
        ("{", "the input: Invalid JSON"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_the_field_and_the_reason(input_json: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        defined(render).arguments(input_json)
    assert reason in str(refused.value)


def test_a_refusal_never_repeats_the_value() -> None:
    with pytest.raises(InvalidInput) as refused:
        defined(render).arguments('{"copies":"hunter2","page":{"title":"A"}}')
    assert "hunter2" not in str(refused.value)


@given(st.text())
def test_any_text_is_either_an_input_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        defined(render).arguments(text)


async def no_context() -> None: ...
async def context_by_name_only(*, ctx: Context) -> None: ...
async def no_type(ctx: Context, size) -> None: ...  # type: ignore[no-untyped-def]
async def star_arguments(ctx: Context, *sizes: int) -> None: ...
async def star_keywords(ctx: Context, **sizes: int) -> None: ...
async def positional_only(ctx: Context, size: int, /) -> None: ...
async def not_json(ctx: Context, callback: Callable[[], None]) -> None: ...
async def not_a_type(ctx: Context, size: 7) -> None: ...  # pyright: ignore[reportGeneralTypeIssues, reportUnknownParameterType]
async def unknown_type(ctx: Context, size: Nowhere) -> None: ...  # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]  # noqa: F821
async def bad_default(ctx: Context, size: Any = object()) -> None: ...  # noqa: B008
async def yields(ctx: Context) -> Any:
    yield 1


UNFIT: list[tuple[Callable[..., Any], str]] = [
    (no_context, "Make its first parameter `ctx: Context`"),
    (context_by_name_only, "Make its first parameter `ctx: Context`"),
    (no_type, "Annotate it, for example `size: str`"),
    (star_arguments, "Write each input as a parameter of its own"),
    (star_keywords, "Write each input as a parameter of its own"),
    (positional_only, "Write each input as a parameter of its own"),
    (not_json, "types that JSON can hold"),
    (not_a_type, "types that JSON can hold"),
    (unknown_type, "defined in the module"),
    (bad_default, "types that JSON can hold"),
    (yields, "Call `ctx.emit` for each event"),
]


@pytest.mark.parametrize(("function", "advice"), UNFIT)
def test_a_function_that_cannot_be_offered_is_refused_with_its_place_and_the_way_out(
    function: Callable[..., Any], advice: str
) -> None:
    with pytest.raises(InvalidTask) as refused:
        define(function, name="t", policy=Policy())
    sentence = str(refused.value)
    assert advice in sentence
    assert Path(__file__).name in sentence
    assert repr(function.__qualname__) in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["", "with space", "-", "x" * 129, "tab\t", "ümlaut", "a/b"])
def test_a_name_that_cannot_stand_in_an_address_is_refused(name: str) -> None:
    with pytest.raises(InvalidTask, match="cannot name a task type"):
        task(name)(no_context)


def test_a_decorator_without_parentheses_is_told_apart() -> None:
    with pytest.raises(InvalidTask, match="instead of @task"):
        task(no_context)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", -1),
        ("max_attempts", True),
        ("max_attempts", "3"),
        ("max_attempts", 1001),
        ("backoff", -1),
        ("backoff", "1s"),
        ("backoff", float("inf")),
        ("backoff", Backoff(factor=0.5)),
        ("backoff", Backoff(first="a")),  # pyright: ignore[reportArgumentType]
        ("backoff", Backoff(longest=None)),  # pyright: ignore[reportArgumentType]
        ("timeout", 0),
        ("timeout", float("nan")),
        ("on_worker_lost", "explode"),
        ("on_disconnect", "die"),
        ("retry_on", "ValueError"),
        ("retry_on", (ValueError, "x")),
        ("no_retry_on", [3]),
        ("concurrency", 0),
        ("concurrency", True),
        ("concurrency", 2.5),
        ("concurrency", 10_001),
        ("queue", "a b"),
        ("queue", ""),
        ("queue", 5),
        ("queue", "q" * 65),
    ],
)
def test_a_policy_that_cannot_be_one_is_refused_with_its_place_the_value_and_the_way_out(
    name: str, value: object
) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(InvalidTask) as refused:
        task("t", **given)(plain)
    sentence = str(refused.value)
    assert Path(__file__).name in sentence
    assert f"{name} is {value!r}. Use " in sentence


def test_a_class_is_no_task() -> None:
    with pytest.raises(InvalidTask, match="is not a function"):
        task("t")(Page)
