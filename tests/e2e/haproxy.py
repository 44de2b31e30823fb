"""A load balancer on loopback, run from the configuration that is deployed.

Only the lines that find replicas by DNS are replaced, by one line per address; everything a test proves about
the proxy is therefore proved about `deploy/haproxy/haproxy.cfg`. Knows nothing of what the replicas serve.
"""

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from tests.support.waiting import wait_until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
HAPROXY = which("haproxy", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")

_DISCOVERY = re.compile(r"^ *server-template .*$", re.MULTILINE)


@dataclass(frozen=True)
class Proxy:
    url: str
    pid: int
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def until_used(self, replica: str) -> None:
        """Wait until the replica is in use (again), by both backends."""

        def states() -> set[str]:
            text = self.log.read_text()
            found = (re.findall(rf"Server {name}/{replica} is (UP|DOWN)", text) for name in ("events", "requests"))
            return {["UP", *each][-1] for each in found}

        await wait_until(lambda: states() == {"UP"}, description=f"{replica} is in use", timeout=60)


def configuration_for(replicas: Sequence[str]) -> str:
    """Return the deployed configuration with fixed `host:port` replicas, named `replica1` and so on."""
    servers = "\n".join(f"    server replica{n} {address}" for n, address in enumerate(replicas, start=1))
    text, backends = _DISCOVERY.subn(servers, CONFIGURATION.read_text())
    if backends != 2:
        raise AssertionError(f"{CONFIGURATION} has {backends} server-template lines, but one per backend is 2.")
    return text


@asynccontextmanager
async def run_haproxy(replicas: Sequence[str], directory: Path) -> AsyncGenerator[Proxy]:
    """Run HAProxy in front of `replicas` (`host:port`), with its files in `directory`; yield once it answers.

    Errors: `RuntimeError` if haproxy is not installed or refuses the configuration.
    """
    if HAPROXY is None:
        raise RuntimeError("haproxy is not on PATH. Install it, or leave out the tests marked `haproxy`.")
    configuration, log = directory / "haproxy.cfg", directory / "haproxy.log"
    configuration.write_text(configuration_for(replicas))
    # The listener is ours and inherited, so the port cannot be taken by another test in between.
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            HAPROXY,
            "-db",
            "-f",
            str(configuration),
            env={**os.environ, "PROXY_BIND": f"fd@{listener.fileno()}"},
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=output,
        )
        port = listener.getsockname()[1]
        try:
            await _answering(process, port, log)
            yield Proxy(f"http://127.0.0.1:{port}", process.pid, log)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)  # at once; SIGUSR1 would wait for every stream
            await process.wait()


async def _answering(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    exited = asyncio.create_task(process.wait(), name="haproxy-exit")
    answered = asyncio.create_task(_answer(port), name="haproxy-answer")
    try:
        await asyncio.wait({exited, answered}, timeout=40, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            raise RuntimeError(f"haproxy did not answer (exit code {process.returncode}): {log.read_text()}")
        await answered
    finally:
        for asyncio_task in (exited, answered):
            asyncio_task.cancel()
        await asyncio.gather(exited, answered, return_exceptions=True)


async def _answer(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: reprise\r\nconnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()
