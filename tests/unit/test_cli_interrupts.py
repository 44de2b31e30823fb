"""Ctrl-C while something is shown: first to its end, then at once."""

import signal
from collections.abc import Iterator

import pytest

from server.cli.interrupts import Interrupts


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """As a program has it that was started from a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def steps_done(interrupts_after: list[int]) -> list[int]:
    """Run a step of three parts, with Ctrl-C after these; the parts that were done."""
    done: list[int] = []

    def run() -> None:
        with Interrupts() as interrupts, interrupts.held():
            for part in range(3):
                done.append(part)
                if part in interrupts_after:
                    signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return done


def test_a_step_is_done_before_the_first_interrupt_ends_it():
    assert steps_done([0]) == [0, 1, 2]


def test_the_second_interrupt_ends_a_step_at_once():
    assert steps_done([0, 1]) == [0, 1]


def test_between_two_steps_an_interrupt_ends_it_at_once():
    with Interrupts() as interrupts:
        with interrupts.held():
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_where_interrupts_are_ignored_they_stay_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts, interrupts.held():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
