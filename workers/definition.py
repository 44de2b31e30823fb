"""Task definitions: what `@task` makes of a function.

The signature after `ctx` is the input: one pydantic model gives the JSON Schema that is published and checks the input
again before each call. Invariant: a function carries its own definition; nothing is registered anywhere. Pure.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from server.streams.errors import InvalidInput
from server.streams.registry import TaskType
from server.streams.settings import CannotStart
from workers.policy import Backoff, OnDisconnect, OnWorkerLost, Policy, make_policy

F = TypeVar("F", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ATTRIBUTE: Final = "__reprise_task__"
_BY_NAME: Final = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


class InvalidTask(CannotStart):
    """The author's: a task function that cannot be offered. The message names file and function, and what to change."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A task function and what is offered of it."""

    name: str
    function: Callable[..., Any] = field(repr=False)
    #: Async functions run on the worker's event loop, plain ones in a thread.
    is_async: bool
    description: str
    policy: Policy
    input_schema: dict[str, Any] = field(repr=False)
    _input: type[BaseModel] = field(repr=False)
    #: Parameters after `ctx`; the model calls the first `p0`, so that one named "copy" shadows nothing of pydantic's.
    _parameters: tuple[str, ...] = field(repr=False)

    @property
    def place(self) -> str:
        """Where the function is written."""
        return _place(self.function)

    def arguments(self, input_json: str) -> dict[str, Any]:
        """The function's arguments from the input as the record holds it. Raises `InvalidInput`."""
        try:
            found = self._input.model_validate_json(input_json)
        except ValidationError as error:
            raise InvalidInput(_sentence(error)) from None
        return {name: getattr(found, f"p{index}") for index, name in enumerate(self._parameters)}

    def task_type(self) -> TaskType:
        """What is published about it."""
        policy = self.policy
        return TaskType(
            self.name,
            self.description,
            self.input_schema,
            policy.max_attempts,
            on_worker_lost=policy.on_worker_lost,
            on_disconnect=policy.on_disconnect,
            queue=policy.queue,
        )


Errors = type[BaseException] | Sequence[type[BaseException]]


def task(
    name: str,
    *,
    queue: str = "default",
    concurrency: int | None = None,
    max_attempts: int | None = None,
    backoff: float | Backoff | None = None,
    timeout: float | None = None,
    on_worker_lost: OnWorkerLost = "retry",
    on_disconnect: OnDisconnect = "continue",
    retry_on: Errors | None = None,
    no_retry_on: Errors = (),
) -> Callable[[F], F]:
    """Offer a function as a task of type `name`. The function stays as it is and can be called by tests.

    Its first parameter is the context; the others, each with a type annotation, are the input. The first paragraph of
    the docstring describes the type. Raises `InvalidTask` for a function, name or policy that cannot be offered.

    A function must be fit to run more than once: its worker may be lost, and it is tried again when it raises.

    queue           where its tasks go, unless whoever creates one says otherwise; see `reprise worker --queues`.
    concurrency     how many of it one worker runs at once, within what it runs at all.
    max_attempts    how often it is tried in all, lost workers included; None leaves it to REPRISE_MAX_ATTEMPTS.
    backoff         the pause before it is tried again after a failure: seconds before the second attempt, doubled for
                    each further one up to a minute, or a `Backoff`. A lost worker's task is not kept waiting.
    timeout         seconds that one attempt may take. It fails then, as with a `TimeoutError`.
    on_worker_lost  "fail" for a task that must not run twice: it fails if its worker dies or is shut down.
    on_disconnect   "cancel" for a task that is of no use to anybody once its last reader has gone.
    retry_on        exceptions after which it is tried again; every `Exception` but `TaskError` if left out.
    no_retry_on     exceptions after which it is not, although `retry_on` names them.
    """

    def policy_for(function: object) -> Policy:
        try:
            return make_policy(
                queue=queue,
                concurrency=concurrency,
                max_attempts=max_attempts,
                backoff=backoff,
                timeout=timeout,
                on_worker_lost=on_worker_lost,
                on_disconnect=on_disconnect,
                retry_on=retry_on,
                no_retry_on=no_retry_on,
            )
        except ValueError as error:
            raise InvalidTask(f"{_place(function)}: {error}") from None

    def decorate(function: F) -> F:
        setattr(function, _ATTRIBUTE, define(function, name=name, policy=policy_for(function)))
        return function

    given: object = name
    if callable(given):
        raise InvalidTask(f'{_place(given)}: write @task("name") with the type\'s name instead of @task.')
    return decorate


def definition_of(candidate: object) -> TaskDefinition | None:
    """The definition that `@task` attached; None for anything else."""
    found = getattr(candidate, _ATTRIBUTE, None)
    return found if isinstance(found, TaskDefinition) else None


def define(function: Callable[..., Any], *, name: str, policy: Policy) -> TaskDefinition:
    """Make a definition of a function. Raises `InvalidTask`."""
    _check_kind(function)
    if not _NAME.fullmatch(name):
        raise InvalidTask(
            f"{_place(function)}: {name[:64]!r} cannot name a task type. "
            "Use 1 to 128 of A-Z a-z 0-9 . _ - and start with a letter or a digit."
        )
    parameters = _input_parameters(function)
    model, schema = _input_model(function, name, parameters)
    return TaskDefinition(
        name=name,
        function=function,
        is_async=inspect.iscoroutinefunction(function),
        description=_first_paragraph(function),
        policy=policy,
        input_schema=schema,
        _input=model,
        _parameters=tuple(parameters),
    )


def _check_kind(function: Callable[..., Any]) -> None:
    if not inspect.isfunction(function):
        raise InvalidTask(f"{function!r} is not a function. Put @task on an `async def` or a `def`.")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise InvalidTask(f"{_place(function)} yields. Call `ctx.emit` for each event and return the result instead.")


def _input_parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    every = list(inspect.signature(function).parameters.values())
    rest = every[1:]
    if not every or every[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise InvalidTask(f"{_place(function)} takes no context. Make its first parameter `ctx: Context`.")
    for parameter in rest:
        if parameter.kind not in _BY_NAME:
            raise InvalidTask(
                f"{_place(function)}: the parameter {str(parameter)!r} cannot be given by name. "
                "Write each input as a parameter of its own."
            )
        if parameter.annotation is inspect.Parameter.empty:
            raise InvalidTask(
                f"{_place(function)}: the parameter {parameter.name!r} has no type. "
                f"Annotate it, for example `{parameter.name}: str`."
            )
    return {parameter.name: parameter for parameter in rest}


def _input_model(
    function: Callable[..., Any], name: str, parameters: Mapping[str, inspect.Parameter]
) -> tuple[type[BaseModel], dict[str, Any]]:
    try:
        annotations = _annotations(function, parameters)
        fields: dict[str, Any] = {
            f"p{index}": (annotations[parameter.name], _field(parameter))
            for index, parameter in enumerate(parameters.values())
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pydantic only warns of a default that JSON cannot hold
            model = create_model(
                name, __config__=ConfigDict(title=name, extra="forbid", validate_default=True), **fields
            )
            return model, model.model_json_schema()
    except (PydanticUserError, NameError, TypeError, ValueError, AttributeError, UserWarning) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise InvalidTask(
            f"{_place(function)}: its input cannot be described as JSON Schema: {reason}. Annotate the parameters "
            "after `ctx` with types that JSON can hold (str, int, list[str], a pydantic model), defined in the module."
        ) from None


def _annotations(function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The parameters' types; that of `ctx` and of the result may be unknown at run time."""
    holder = type("Input", (), {"__annotations__": {name: each.annotation for name, each in parameters.items()}})
    module: dict[str, Any] = getattr(function, "__globals__", {})
    return get_type_hints(holder, globalns=module, localns=module, include_extras=True)


def _field(parameter: inspect.Parameter) -> Any:
    if parameter.default is inspect.Parameter.empty:
        return Field(alias=parameter.name)
    return Field(default=parameter.default, alias=parameter.name)


def _first_paragraph(function: Callable[..., Any]) -> str:
    paragraph = (inspect.getdoc(function) or "").split("\n\n", 1)[0]
    return " ".join(paragraph.split())


def _place(function: object) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    if code is None:
        return name
    path = Path(cast("str", code.co_filename))
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{code.co_firstlineno}: the task function {name!r}"


def _sentence(error: ValidationError) -> str:
    """What is wrong with an input, field by field; never the values, which may be secret."""
    found = error.errors(include_url=False, include_input=False)
    parts = [f"{'.'.join(str(part) for part in each['loc']) or 'the input'}: {each['msg']}" for each in found[:5]]
    return f"The input does not fit. {'; '.join(parts)}."
