"""A command of `reprise` that a test talks to while it runs: fed line by line, watched, interrupted."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.e2e.dev_run import REPRISE, environment
from tests.support.waiting import wait_until

_PATIENCE_SECONDS = 90.0


class Command:
    """One run; `out` and `errors` is all it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.out = ""
        self.errors = ""
        self._process = process
        self._reading = [
            asyncio.create_task(self._read_out(), name="read stdout"),
            asyncio.create_task(self._read_errors(), name="read stderr"),
        ]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    async def feed(self, text: bytes) -> None:
        """Write to its stdin; waits while it takes nothing."""
        assert self._process.stdin
        self._process.stdin.write(text)
        await self._process.stdin.drain()

    async def has(self, count: int) -> None:
        """Wait until it has printed so many lines."""
        await wait_until(
            lambda: len(self.lines) >= count, description=f"{count} lines, not\n{self}", timeout=_PATIENCE_SECONDS
        )

    async def said(self, text: str) -> None:
        """Wait until it has said so on stderr."""
        await wait_until(lambda: text in self.errors, description=f"{text!r} on stderr", timeout=_PATIENCE_SECONDS)

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """Wait for its end, with nothing more on its stdin; its exit code."""
        assert self._process.stdin
        self._process.stdin.close()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            code = await self._process.wait()
            await asyncio.gather(*self._reading)
        assert "Traceback" not in self.errors, self.errors
        return code

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._reading)

    def __str__(self) -> str:
        return f"{self.out[-2000:]}\n{self.errors[-2000:]}"

    async def _read_out(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            self.out += line.decode()

    async def _read_errors(self) -> None:
        assert self._process.stderr
        while part := await self._process.stderr.read(4096):
            self.errors += part.decode()


@asynccontextmanager
async def command(folder: Path, *words: str, settings: Mapping[str, str] | None = None) -> AsyncGenerator[Command]:
    """Run it in `folder` with pipes; whatever still runs at the end is ended."""
    process = await asyncio.create_subprocess_exec(
        *(REPRISE, *words),
        cwd=folder,
        env=environment(settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    found = Command(process)
    try:
        yield found
    finally:
        with suppress(ProcessLookupError):
            await found.close()


async def on_terminal(
    folder: Path, *words: str, stdin: Path = Path(os.devnull), stdout: Path | None = None
) -> tuple[int, str]:
    """Run a command to its end at a terminal, which gets stdout too unless that is a file.

    Returns its exit code, and what the terminal was sent.
    """
    ours, theirs = pty.openpty()
    with stdin.open("rb") as source, (stdout or Path(os.devnull)).open("wb") as target:
        process = await asyncio.create_subprocess_exec(
            *(REPRISE, *words),
            cwd=folder,
            env={**environment(None), "TERM": "xterm-256color"},
            stdin=source,
            stdout=target if stdout else theirs,
            stderr=theirs,
        )
    os.close(theirs)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        sent = await asyncio.to_thread(_read_all, ours)
        return await process.wait(), sent.decode()


async def for_nobody(folder: Path, *words: str, stdin: Path = Path(os.devnull)) -> tuple[int, str]:
    """Run a command to its end with a stdout that nobody reads any more; its exit code and stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    with stdin.open("rb") as source:
        process = await asyncio.create_subprocess_exec(
            *(REPRISE, *words),
            cwd=folder,
            env=environment(None),
            stdin=source,
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
        )
    os.close(writing)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        _, errors = await process.communicate()
    return process.returncode or 0, errors.decode()


def _read_all(descriptor: int) -> bytes:
    parts: list[bytes] = []
    # A terminal that nobody holds any more gives EIO.
    with suppress(OSError):
        while part := os.read(descriptor, 65536):
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts)
