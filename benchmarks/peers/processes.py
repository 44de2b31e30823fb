"""Starting and ending the programs that are measured.

Invariant: a program is ended by its pid, however the run ends, and never by our Ctrl-C: each has a process group of
its own. What it says goes to a file in the run's folder; its last lines are shown if it dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

_STOP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.01
_SHOWN_LINES: Final = 12


class Unusable(Exception):
    """The machine's or the peer's: something the benchmark needs is missing or died. A sentence with the way out."""


class Program:
    """One started program."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log
        self._stop_signal = stop_signal

    def check(self) -> None:
        """Raise `Unusable` if it has ended."""
        if (code := self._process.poll()) is not None:
            said = "\n".join(self._log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])
            raise Unusable(f"{self.name} ended with exit code {code}. It said:\n{said}")

    def wait_until(self, condition: Callable[[], bool], *, what: str, within_seconds: float = 60.0) -> None:
        """Wait for the program to get somewhere. Raises `Unusable` if it dies or does not."""
        deadline = time.monotonic() + within_seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise Unusable(f"{self.name} did not {what} within {within_seconds:g} s. See {self._log}.")
            time.sleep(_POLL_SECONDS)

    def kill(self) -> int:
        """Kill it at once; returns the monotonic time in nanoseconds at which it was done."""
        os.kill(self.pid, signal.SIGKILL)
        at_ns = time.monotonic_ns()
        self._process.wait()
        return at_ns

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    cpus: Iterable[int] = (),
    stop_signal: signal.Signals = signal.SIGKILL,
) -> Program:
    """Start a program in `folder`, on the given processors if any are given."""
    log = folder / f"{name.replace(' ', '-')}.log"
    with log.open("ab") as output, _placed_on(cpus):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**_own_environment(), **(environment or {})},
            process_group=0,
        )
    return Program(name, process, log, stop_signal)


@contextlib.contextmanager
def running(program: Program) -> Generator[Program]:
    """The program, ended at the end."""
    try:
        yield program
    finally:
        program.stop()


def free_port() -> int:
    """A port nobody listens on, for a program that cannot say which one it took."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _own_environment() -> dict[str, str]:
    """Ours without settings of Reprise: what somebody set for a server of theirs is no part of a measurement."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REPRISE_")}


@contextlib.contextmanager
def _placed_on(cpus: Iterable[int]) -> Generator[None]:
    """Children started inside run on these processors."""
    wanted = set(cpus)
    before = os.sched_getaffinity(0)
    if wanted:
        os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
