"""A Redis or Valkey of the benchmark's own, in memory, on a unix socket."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from server.dev.valkey import find_program

_START_SECONDS: Final = 10.0


@contextmanager
def running_redis() -> Generator[str]:
    """Yield the URL of a server that is ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as folder:
        socket = Path(folder) / "redis.sock"
        command = [find_program(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                deadline = monotonic() + _START_SECONDS
                while not socket.exists():
                    if process.poll() is not None or monotonic() > deadline:
                        raise SystemExit("The benchmark's Redis did not start.")
                    sleep(0.01)
                yield f"unix://{socket}"
            finally:
                process.kill()
