"""What a policy decides: which failures are worth another attempt, and how long to wait before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.streams.errors import InvalidInput, TooLarge
from workers import TaskError
from workers.endings import Failure, of_error, of_result
from workers.policy import Backoff, Policy, make_policy

draws = st.floats(0, 1)


@given(st.integers(1, 10_000), draws)
def test_a_pause_lies_between_half_and_all_of_what_it_grew_to(failures: int, draw: float) -> None:
    full = min(60.0, 2.0 ** (failures - 1)) if failures < 100 else 60.0
    assert full / 2 <= Backoff().seconds(failures, draw) <= full


@given(st.integers(1, 1000), draws)
def test_pauses_grow_and_have_an_end(failures: int, draw: float) -> None:
    backoff = Backoff(0.5, 3, 40)
    assert backoff.seconds(failures, draw) <= backoff.seconds(failures + 1, draw) <= 40


@pytest.mark.parametrize("factor", [1e6, 10**400])
def test_a_pause_that_outgrows_every_number_is_the_longest(factor: float) -> None:
    assert Backoff(factor=factor).seconds(60, 1) == 60
    assert Backoff(0, factor=factor).seconds(60, 1) == 0


@pytest.mark.parametrize(
    ("given_backoff", "first"),
    [(None, Backoff()), (5, Backoff(5)), (90, Backoff(90, longest=90)), (0, Backoff(0, longest=0))],
)
def test_a_number_is_the_first_pause(given_backoff: float | None, first: Backoff) -> None:
    assert make_policy(backoff=given_backoff).backoff == first


@pytest.mark.parametrize("error", [ValueError("x"), OSError(), TimeoutError(), MemoryError()])
def test_an_exception_is_worth_another_attempt(error: BaseException) -> None:
    assert Policy().retries(error)


@pytest.mark.parametrize(
    "error", [TaskError("x"), InvalidInput("x"), TooLarge("x"), SystemExit(3), KeyboardInterrupt()]
)
def test_what_is_meant_or_would_only_happen_again_is_not(error: BaseException) -> None:
    assert not Policy().retries(error)


def test_an_author_may_ask_for_another_attempt_after_anything() -> None:
    assert make_policy(retry_on=(TaskError, SystemExit)).retries(TaskError("x"))
    assert make_policy(retry_on=SystemExit).retries(SystemExit(1))
    assert not make_policy(retry_on=OSError).retries(ValueError())
    assert not make_policy(retry_on=OSError, no_retry_on=FileNotFoundError).retries(FileNotFoundError())


def test_a_result_that_is_too_large_is_called_a_result() -> None:
    failure = of_result("x" * 100, max_bytes=50)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.text.partition(";")[0]) == ("result_too_large", "The result is 113 bytes")


def test_only_a_failure_that_was_declared_is_nothing_to_look_at() -> None:
    assert not of_error(TaskError("x"), Policy()).is_dead_letter
    assert of_error(TaskError("x"), make_policy(retry_on=TaskError)).is_dead_letter
    assert of_error(SystemExit(1), Policy()).is_dead_letter
