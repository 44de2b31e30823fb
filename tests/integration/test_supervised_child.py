"""One supervised process: restarts, deadlines, and what it leaves."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.dev.child import Child, ChildRefused, Program, restart_delay
from server.dev.output import Output, split_lines
from tests.e2e.dev_run import is_alive
from tests.support.waiting import wait_until

#: Says its pid, then waits; with `deaf` it does not hear SIGTERM.
PROGRAM = "import os, signal, sys, time; {}; print('pid', os.getpid(), flush=True); time.sleep(60)"
DEAF = PROGRAM.format("signal.signal(signal.SIGTERM, signal.SIG_IGN)")


class Lines(Output):
    """Keeps what would be shown."""

    def __init__(self) -> None:
        super().__init__(width=0)
        self.shown: list[str] = []

    def plain(self, text: str) -> None:
        self.shown.append(text)

    @property
    def pids(self) -> list[int]:
        return [int(line.rpartition("pid ")[2]) for line in self.shown if line.startswith("it | pid ")]


@asynccontextmanager
async def running(code: str, *, stop_seconds: float = 5) -> AsyncGenerator[tuple[Child, Lines]]:
    """A child that runs `code`; in the end it is stopped and nothing may be left."""
    lines = Lines()
    child = Child(Program("it", [sys.executable, "-c", code], os.environ, stop_seconds), lines)
    run = asyncio.create_task(child.run())
    try:
        yield child, lines
    finally:
        child.stop()
        await run
    await wait_until(lambda: not any(is_alive(pid) for pid in lines.pids), description="the end of all")


async def test_a_killed_process_is_started_again():
    async with running(PROGRAM.format("1")) as (_, lines):
        await wait_until(lambda: lines.pids, description="the first start")
        os.kill(lines.pids[0], signal.SIGKILL)
        await wait_until(lambda: len(lines.pids) == 2, description="the second start")
    assert "reprise | it was ended by SIGKILL; starting it again" in lines.shown


async def test_a_process_that_does_not_stop_is_killed_after_its_deadline():
    async with running(DEAF, stop_seconds=0.1) as (child, lines):
        await wait_until(lambda: lines.pids, description="the start")
        child.stop()
    assert "reprise | it is killed: it did not stop within 0.1 s" in lines.shown


async def test_a_second_wish_does_not_wait_for_the_deadline():
    async with running(DEAF, stop_seconds=60) as (child, lines):
        await wait_until(lambda: lines.pids, description="the start")
        child.stop()
        child.stop(at_once=True)
    assert "reprise | it is killed: as asked" in lines.shown


async def test_what_a_process_started_goes_with_it():
    code = (
        "import subprocess, sys; "
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print('pid', grandchild.pid, flush=True); grandchild.wait()"
    )
    async with running(code) as (_, lines):
        await wait_until(lambda: lines.pids, description="the start of what it starts")


async def test_refused_settings_are_not_tried_again():
    lines = Lines()
    child = Child(Program("it", [sys.executable, "-c", "raise SystemExit(2)"], os.environ, 1), lines)
    with pytest.raises(ChildRefused):
        await child.run()
    assert sum("started" in line for line in lines.shown) == 1


async def test_a_cancelled_run_leaves_nothing():
    lines = Lines()
    child = Child(Program("it", [sys.executable, "-c", DEAF], os.environ, 60), lines)
    run = asyncio.create_task(child.run())
    await wait_until(lambda: lines.pids, description="the start")
    run.cancel()
    await asyncio.wait({run})
    # Waited for, too: a zombie would still have its pid.
    with pytest.raises(ProcessLookupError):
        os.kill(lines.pids[0], 0)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_restarts_are_prompt_at_first_and_never_slower_than_five_seconds(deaths: int, chance: float):
    assert 0 < restart_delay(1, chance) <= 0.05
    assert restart_delay(deaths, chance) <= restart_delay(deaths + 1, chance) <= 5


async def test_lines_are_whole_however_they_arrive_and_overlong_ones_come_in_parts():
    reader = asyncio.StreamReader()
    for part in (b"one\ntw", b"o\n", b"x" * 300_000, b"\nlast"):
        reader.feed_data(part)
    reader.feed_eof()
    lines = [line async for line in split_lines(reader)]
    assert (lines[:2], lines[-1]) == ([b"one", b"two"], b"last")
    assert b"".join(lines[2:-1]) == b"x" * 300_000
