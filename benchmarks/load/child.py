"""Load processes: how one is started, told things and heard, and how it ends.

Invariant: a child lives no longer than its parent's end of the pipe, and is ended by its pid. Messages are the plain
data of `spec`, pickled over a socket pair that only the two know.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

from benchmarks.load.spec import Failed, Progress
from benchmarks.load.transcript import Broken

T = TypeVar("T")

_POLL_SECONDS: Final = 0.2


class Child:
    """The parent's side of a load process."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: Connection) -> None:
        self._process = process
        self._pipe = pipe
        self.pid = process.pid

    def tell(self, message: object) -> None:
        self._pipe.send(message)

    def hear(self, kind: type[T], *, within_seconds: float, on_progress: Callable[[float], None] | None = None) -> T:
        """Wait for a message of this kind. Raises `Broken` with the child's sentence, or if it is silent or dead."""
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            if not self._pipe.poll(_POLL_SECONDS):
                continue
            try:
                message: Any = self._pipe.recv()
            except EOFError:
                raise Broken(f"A load process ended without a word; exit code {self._process.wait()}.") from None
            if isinstance(message, kind):
                return message
            if isinstance(message, Failed):
                raise Broken(message.sentence)
            if isinstance(message, Progress) and on_progress:
                on_progress(message.share)
        raise Broken(f"A load process said no {kind.__name__!r} within {within_seconds:g} s.")


@contextlib.contextmanager
def running(module: str, spec: object) -> Generator[Child]:
    """Run `python -m module` with the spec; killed at the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()
        pipe = Connection(ours.detach())
        try:
            pipe.send(spec)
            yield Child(process, pipe)
        finally:
            process.kill()
            process.wait()
            pipe.close()


def parent(arguments: list[str]) -> Connection:
    """The child's side: the pipe to the parent, named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    return Connection(int(arguments[1]))


def serve(pipe: Connection, work: Callable[[], None]) -> None:
    """Do the child's work and tell the parent of a failure. Ends quietly when the parent is gone."""
    try:
        work()
    except Broken as broken:
        with contextlib.suppress(OSError):
            pipe.send(Failed(str(broken)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)
