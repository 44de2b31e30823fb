"""What a task's author decides about how it is run: where, how often, after what, and how soon it is tried again. Pure.

Times and random numbers are passed in. What others than the worker have to know of it (`max_attempts`,
`on_worker_lost`, `on_disconnect`, `queue`) is published with the type and kept in each record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, TypeGuard, TypeVar, cast, get_args

from server.streams.errors import InvalidInput
from server.streams.names import parse_queue_name
from workers.failures import TaskError

T = TypeVar("T")

OnWorkerLost = Literal["retry", "fail"]
OnDisconnect = Literal["continue", "cancel"]

#: Any usual factor has reached the longest pause by then.
_MOST_DOUBLINGS: Final = 64
#: As the settings.
_MOST_ATTEMPTS: Final = 1000
_MOST_CONCURRENCY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before another attempt, in seconds: `first`, then `factor` times the one before, at most `longest`.

    Each is drawn between half of that and all of it: what failed together must not come back together.
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 60.0

    def seconds(self, failures: int, draw: float) -> float:
        """The pause after that many attempts; `draw` is random, between 0 and 1."""
        try:
            full = self.first * self.factor ** min(failures - 1, _MOST_DOUBLINGS)
        except OverflowError:
            full = self.longest if self.first else 0.0
        return min(self.longest, full) * (0.5 + draw / 2)


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one task type."""

    #: None leaves it to REPRISE_MAX_ATTEMPTS.
    max_attempts: int | None = None
    backoff: Backoff = field(default_factory=Backoff)
    #: Seconds that one attempt may take; None for no limit.
    timeout: float | None = None
    on_worker_lost: OnWorkerLost = "retry"
    on_disconnect: OnDisconnect = "continue"
    #: None for every `Exception` but those that would only be raised again: see `retries`.
    retry_on: tuple[type[BaseException], ...] | None = None
    no_retry_on: tuple[type[BaseException], ...] = ()
    #: Where its tasks go unless whoever creates one says otherwise.
    queue: str = "default"
    #: How many of it one worker runs at once; None for as many as it runs at all.
    concurrency: int | None = None

    def retries(self, error: BaseException) -> bool:
        """Whether another attempt may succeed where this one ended with the error.

        Unless the author says otherwise that is any `Exception`, but not a `TaskError`, which says that the task has
        failed, nor an event that broke a rule, which would break it again.
        """
        if isinstance(error, self.no_retry_on):
            return False
        if self.retry_on is not None:
            return isinstance(error, self.retry_on)
        return isinstance(error, Exception) and not isinstance(error, (TaskError, InvalidInput))


def make_policy(
    *,
    max_attempts: object = None,
    backoff: object = None,
    timeout: object = None,
    on_worker_lost: object = "retry",
    on_disconnect: object = "continue",
    retry_on: object = None,
    no_retry_on: object = (),
    queue: object = "default",
    concurrency: object = None,
) -> Policy:
    """The policy that somebody wrote down. Raises `ValueError` with a sentence about what cannot be one."""
    return Policy(
        _whole("max_attempts", max_attempts, _MOST_ATTEMPTS),
        _backoff(backoff),
        None if timeout is None else _seconds("timeout", timeout, "a number above 0, or leave it out"),
        _one_of("on_worker_lost", on_worker_lost, get_args(OnWorkerLost)),
        _one_of("on_disconnect", on_disconnect, get_args(OnDisconnect)),
        None if retry_on is None else _classes("retry_on", retry_on),
        _classes("no_retry_on", no_retry_on),
        _queue(queue),
        _whole("concurrency", concurrency, _MOST_CONCURRENCY),
    )


def _whole(name: str, value: object, most: int) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
        return value
    raise ValueError(f"{name} is {value!r}. Use a number from 1 to {most}, or leave it out.")


def _queue(value: object) -> str:
    try:
        return parse_queue_name(value if isinstance(value, str) else "")
    except InvalidInput as error:
        raise ValueError(f"queue is {value!r}. {str(error).partition('. ')[2]}") from None


def _backoff(value: object) -> Backoff:
    if value is None:
        return Backoff()
    if isinstance(value, Backoff):
        parts = (value.first, value.factor, value.longest)
        are_numbers = all(_is_number(part) for part in parts)
        if are_numbers and value.first >= 0 and value.factor >= 1 and 0 <= value.longest < inf:
            return value
        raise ValueError(f"backoff is {value!r}. Use a first pause of 0 or more, a factor of 1 or more, and an end.")
    if value == 0 and not isinstance(value, bool):
        return Backoff(0, longest=0)
    first = _seconds("backoff", value, "seconds, 0 or more, or a Backoff")
    return Backoff(first, longest=max(first, Backoff().longest))


def _seconds(name: str, value: object, hint: str) -> float:
    if _is_number(value) and 0 < value < inf:
        return value
    raise ValueError(f"{name} is {value!r}. Use {hint}.")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _one_of(name: str, value: object, known: tuple[T, ...]) -> T:
    for each in known:
        if value == each:
            return each
    raise ValueError(f"{name} is {value!r}. Use {' or '.join(repr(each) for each in known)}.")


def _classes(name: str, value: object) -> tuple[type[BaseException], ...]:
    found = cast("Sequence[object]", value if isinstance(value, list | tuple) else (value,))
    classes = tuple(each for each in found if isinstance(each, type) and issubclass(each, BaseException))
    if len(classes) == len(found):
        return classes
    raise ValueError(f"{name} is {value!r}. Use an exception class, or a tuple of them.")
