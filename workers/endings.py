"""What the end of a function means for its task: a result, a failure, and whether another attempt is worth it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from server.streams.errors import InvalidInput, LogUnavailable, TooLarge
from server.streams.event import check_size, encode_json
from workers.failures import TaskError
from workers.policy import Policy

_MAX_ERROR_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True)
class Success:
    """The data of the terminal event `complete`."""

    data: str


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed."""

    text: str
    code: str
    #: Whether the policy allows another attempt, as far as the kind of failure goes.
    is_retryable: bool = False
    #: Whether somebody should look at the task. Not so where its function said that this is the outcome.
    is_dead_letter: bool = True

    @property
    def data(self) -> str:
        """The data of the terminal event `error`."""
        data: dict[str, Any] = {"error": self.text, "code": self.code}
        return encode_json(data, what="The error")


def of_result(result: object, *, max_bytes: int) -> Success | Failure:
    """The outcome of a function that returned. What JSON cannot hold would be returned again by another attempt."""
    try:
        data = encode_json({"result": result}, what="The result")
        return Success(check_size(data, max_bytes=max_bytes, what="The result"))
    except TooLarge as error:
        return Failure(str(error), "result_too_large")
    except InvalidInput as error:
        return Failure(str(error), "result_not_serializable")


def of_error(error: BaseException, policy: Policy) -> Failure:
    """The outcome of a function that raised."""
    is_retryable = policy.retries(error)
    is_meant = isinstance(error, TaskError) and not is_retryable
    return Failure(described(error), "task_failed", is_retryable, is_dead_letter=not is_meant)


def of_timeout(policy: Policy) -> Failure:
    """The outcome of an attempt that took longer than it may. Policies know it as Python's `TimeoutError`."""
    text = f"The attempt took longer than its timeout of {policy.timeout:g} s."
    return Failure(text, "timeout", policy.retries(TimeoutError(text)))


def of_unstored(policy: Policy, seconds: float, why: str) -> Failure:
    """The outcome of an attempt of which Redis stored nothing for so long. Policies know it as `LogUnavailable`."""
    text = f"Redis stored nothing of this attempt for {seconds:g} s (REPRISE_WRITE_TIMEOUT_SECONDS). {why}".strip()
    return Failure(text[:_MAX_ERROR_CHARACTERS], "not_stored", policy.retries(LogUnavailable(text)))


def described(error: BaseException) -> str:
    """`<type>: <message>`, whatever the message is made of; of a `TaskError` the message alone."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an exception of the user's own making
        message = "(its message cannot be shown)"
    name = type(error).__name__
    text = message if message and isinstance(error, TaskError) else f"{name}: {message}" if message else name
    return text[:_MAX_ERROR_CHARACTERS].encode(errors="replace").decode()
