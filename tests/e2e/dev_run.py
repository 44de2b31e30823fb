"""`reprise dev` as a person runs it: started in a folder, watched line by line, stopped by a signal."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from tests.support.http import http_client
from tests.support.ports import unused_port
from tests.support.waiting import wait_until

REPRISE = str(Path(sys.executable).parent / "reprise")
_STARTED = re.compile(r"(\S+) started \(pid (\d+)\)")


class DevRun:
    """One run; `lines` is all it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lines: list[str] = []
        self.process = process
        self._reading = asyncio.create_task(self._read(), name="read lines")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def url(self) -> str:
        found = re.search(r"page +(http\S+)", self.text)
        assert found, f"No banner in:\n{self.text}"
        return found[1].rstrip("/")

    def pids(self, name: str = "") -> list[int]:
        """Pids of every process of that name (all if empty), oldest first."""
        return [int(pid) for found, pid in _STARTED.findall(self.text) if found == (name or found)]

    async def said(self, pattern: str, *, timeout: float = 60) -> None:
        await wait_until(
            lambda: re.search(pattern, self.text) or self.process.returncode is not None,
            description=f"{pattern!r} in:\n{self.text}",
            timeout=timeout,
        )
        assert re.search(pattern, self.text), f"It ended without {pattern!r}:\n{self.text}"

    async def ready(self) -> None:
        """Wait for the banner."""
        await self.said("Reprise is ready")

    async def is_healthy(self) -> bool:
        async with http_client(self.url, timeout=30) as http:
            with suppress(httpx.HTTPError):
                return (await http.get("/health/ready")).status_code == 200
        return False

    async def came_back(self, name: str, *, after: int) -> int:
        """Wait until a process of that name follows the one with pid `after`, and all is well; its pid."""
        pid = await wait_until(
            lambda: next((pid for pid in self.pids(name) if pid != after), 0),
            description=f"another {name} in:\n{self.text}",
            timeout=60,
        )
        await wait_until(self.is_healthy, description=f"health after the end of {name}", timeout=60)
        return pid

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self, *, timeout: float = 60) -> int:
        async with asyncio.timeout(timeout):
            code = await self.process.wait()
            await self._reading
        return code

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())


@asynccontextmanager
async def dev_run(
    folder: Path, *options: str, port: int | None = None, settings: Mapping[str, str] | None = None
) -> AsyncGenerator[DevRun]:
    """Start it in `folder`, on a free port; in the end it is stopped and nothing may be left."""
    process = await asyncio.create_subprocess_exec(
        *(REPRISE, "dev", "--port", str(unused_port() if port is None else port), *options),
        cwd=folder,
        env=environment(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    run = DevRun(process)
    try:
        yield run
    finally:
        if process.returncode is None:
            await run.stop()
        with suppress(TimeoutError):
            await run.ended(timeout=30)
        left = [pid for pid in run.pids() if is_alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert left == [], f"Left running: {left}\n{run.text}"


async def reprise(
    folder: Path, *arguments: str, settings: Mapping[str, str] | None = None, stdin: Path = Path(os.devnull)
) -> tuple[int, str, str]:
    """Run a command to its end: exit code, stdout, stderr."""
    with stdin.open("rb") as source:
        process = await asyncio.create_subprocess_exec(
            *(REPRISE, *arguments),
            cwd=folder,
            env=environment(settings),
            stdin=source,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    async with asyncio.timeout(120):
        out, errors = await process.communicate()
    return process.returncode or 0, out.decode(), errors.decode()


def environment(settings: Mapping[str, str] | None) -> dict[str, str]:
    """That of this process with these settings, and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("REPRISE_")}
    return kept | dict(settings or {})


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
