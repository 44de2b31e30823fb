"""One process of a run: started, its lines shown, restarted when it dies, stopped with a deadline.

Invariant: when `run` returns, however it returns, nothing of its process group is left. Each child has a
session of its own, so that Ctrl-C reaches the supervisor alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from server.dev.output import Output

#: A process that lived this long has proved that it can start: its next restart is prompt again.
_PROVEN_SECONDS: Final = 10.0
#: A killed process is back before a reader's `retry:` is over.
_PROMPT_SECONDS: Final = 0.05
_SLOWEST_SECONDS: Final = 5.0
#: How long to wait for the rest of what a dead process said.
_LAST_WORDS_SECONDS: Final = 1.0
#: Exit code for settings, task modules or a command line that are wrong; starting again would not mend them.
_REFUSED: Final = 2


class ChildRefused(Exception):
    """The person's: a process says that its settings or task modules are wrong. It has printed which."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    #: Between the request to stop and SIGKILL.
    stop_seconds: float
    inherited: tuple[int, ...] = ()
    #: Lines with this text are not shown.
    unshown: str | None = None


@dataclass(slots=True, eq=False)
class Child:
    """One supervised process."""

    program: Program
    output: Output
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _kill: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Keep the process running until `stop`. Raises `ChildRefused` if it refuses what it was given."""
        clock = asyncio.get_running_loop().time
        deaths = 0
        while not self._stop.is_set():
            started = clock()
            code = await self._run_once()
            if self._stop.is_set():
                self.output.line("reprise", f"{self.program.name} stopped")
                return
            if code == _REFUSED:
                raise ChildRefused(self.program.name)
            deaths = 1 if clock() - started > _PROVEN_SECONDS else deaths + 1
            delay = restart_delay(deaths, random.random())
            self.output.line("reprise", f"{self.program.name} {_describe(code)}; starting it again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end; `at_once` does not wait for it to finish what it holds."""
        self._stop.set()
        if at_once:
            self._kill.set()

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *launched(self.program.command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self.program.environment),
            pass_fds=self.program.inherited,
            start_new_session=True,
        )
        try:
            self.output.line("reprise", f"{self.program.name} started (pid {process.pid})")
            await self._attend(process)
        finally:
            _signal_group(process, signal.SIGKILL)
            # Also when this is cancelled: a loop that closes before the kernel has told the end would leave a
            # process that nobody has waited for.
            code = await process.wait()
        return code

    async def _attend(self, process: asyncio.subprocess.Process) -> None:
        """Show its lines until it has ended; pass the wish to stop on to it."""
        assert process.stdout is not None  # noqa: S101 (it was asked for)
        copying = asyncio.create_task(
            self.output.copy(self.program.name, process.stdout, unless=self.program.unshown), name="copy lines"
        )
        ended = asyncio.create_task(process.wait(), name="wait for the process")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for the wish to stop")
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end(process, ended)
            # Whatever it started goes first: it would hold the other end of the pipe open.
            _signal_group(process, signal.SIGKILL)
            await asyncio.wait({copying}, timeout=_LAST_WORDS_SECONDS)
        finally:
            for each in (copying, ended, stopping):
                each.cancel()

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        # To the process alone: it knows best what to tell those that it started.
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        killing = asyncio.create_task(self._kill.wait(), name="wait for the wish to kill")
        await asyncio.wait({ended, killing}, timeout=self.program.stop_seconds, return_when=asyncio.FIRST_COMPLETED)
        killing.cancel()
        if not ended.done():
            why = "as asked" if self._kill.is_set() else f"it did not stop within {self.program.stop_seconds:g} s"
            self.output.line("reprise", f"{self.program.name} is killed: {why}")
            _signal_group(process, signal.SIGKILL)
            await ended


def restart_delay(deaths: int, chance: float) -> float:
    """Seconds to wait after the given number of deaths in a row; `chance` (0–1) spreads them by half."""
    slowest = min(_SLOWEST_SECONDS, _PROMPT_SECONDS * 2 ** min(deaths - 1, 20))
    return slowest * (0.5 + chance / 2)


def launched(command: Sequence[str]) -> list[str]:
    """The command, so that it does not outlive this process."""
    launcher = Path(__file__).with_name("launch.py")
    return [sys.executable, "-I", "-S", str(launcher), str(os.getpid()), *command]


def _signal_group(process: asyncio.subprocess.Process, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, which)


def _describe(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
