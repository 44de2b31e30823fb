"""One process of Redis, be it a server with an append-only file or a sentinel: killed, frozen, or set back by a second.

Every write is on disk before its reply is (`appendfsync always`), so killing the process loses nothing, and what a run
loses it loses on purpose: `lose` cuts the file to what it was some time ago, as a lost disk cache does. It has its
configuration in a file, for those it belongs to rewrite that: what a sentinel decided is still decided after a restart.
Imports nothing of the product.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import hiredis

from tests.support.redis_server import server_binary

_START_SECONDS = 30.0
_POLL_SECONDS = 0.02
_SAMPLE_SECONDS = 0.05
#: Sizes of the file are known for so many samples: five seconds.
_SAMPLES = 100
_COMMAND_SECONDS = 5.0
_pack: Final = cast("Callable[[tuple[str | int, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]


class RedisNode:
    """Listens on a port of its own, which it keeps. `lines` are added to its configuration."""

    def __init__(self, name: str, port: int, folder: Path, *lines: str, is_sentinel: bool = False) -> None:
        self.name = name
        self.port = port
        self.is_sentinel = is_sentinel
        self.is_paused = False
        self._folder = folder / name
        self._folder.mkdir()
        self._process: asyncio.subprocess.Process | None = None
        self._sampling: asyncio.Task[None] | None = None
        #: When, which file, and how long it was.
        self._sizes: deque[tuple[float, Path, int]] = deque(maxlen=_SAMPLES)
        own = [f"port {port}", "bind 127.0.0.1", f"dir {self._folder}"]
        if not is_sentinel:
            own += ['save ""', "appendonly yes", "appendfsync always", "auto-aof-rewrite-percentage 0"]
        self._configuration = self._folder / "redis.conf"
        self._configuration.write_text("\n".join([*own, *lines]) + "\n")

    @property
    def is_up(self) -> bool:
        """Whether it can answer."""
        return self.is_running and not self.is_paused

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it has loaded its data."""
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder
            )
        async with asyncio.timeout(_START_SECONDS):
            while not await self._answers():
                assert self.is_running, f"{self.name} ended: {(self._folder / 'log').read_text()[-2000:]}"
                await asyncio.sleep(_POLL_SECONDS)
        self._sizes.clear()
        if not self.is_sentinel:
            self._sampling = asyncio.create_task(self._sample(), name=f"sizes of {self.name}")

    async def kill(self) -> None:
        if self._sampling:
            self._sampling.cancel()
        self.is_paused = False
        if self._process and self.is_running:
            self._process.kill()
            await self._process.wait()

    def pause(self) -> None:
        self.is_paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.is_paused = False
        self._signal(signal.SIGCONT)

    async def lose(self, seconds: float) -> float:
        """Kill it and forget what it wrote in the last so many seconds; how much that really was."""
        now = _now()
        await self.kill()
        try:
            file = self._append_only_file()
        except FileNotFoundError:  # killed while it took over the data of another: it has nothing to lose
            return 0.0
        # After a resynchronisation it writes to another file; what was before that is in none any more.
        known = [(at, size) for at, sampled, size in self._sizes if sampled == file]
        kept = [sample for sample in known if sample[0] <= now - seconds] or known[:1]
        at, size = kept[-1] if kept else (now, file.stat().st_size)
        os.truncate(file, size)
        return _now() - at

    async def command(self, *words: str | int, within: float = _COMMAND_SECONDS) -> Any:
        """Send one command over a connection of its own. Raises `OSError`, and errors of Redis as `RuntimeError`."""
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                return await _ask(reader, writer, words)
            finally:
                writer.close()

    async def _answers(self) -> bool:
        with suppress(OSError, RuntimeError):
            return bool(await self.command("PING"))
        return False

    async def _sample(self) -> None:
        while True:
            with suppress(OSError):
                file = self._append_only_file()
                self._sizes.append((_now(), file, file.stat().st_size))
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _append_only_file(self) -> Path:
        """The part that is written to: the newest. Raises `OSError` if there is none."""
        files = list((self._folder / "appendonlydir").glob("appendonly.aof.*.incr.aof"))
        if not files:
            raise FileNotFoundError(f"{self.name} has no append-only file.")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self.is_running:
            self._process.send_signal(number)

    def _command(self) -> list[str]:
        return [server_binary(), str(self._configuration), *(["--sentinel"] if self.is_sentinel else [])]


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: tuple[str | int, ...]) -> Any:
    writer.write(_pack(words))
    parser = hiredis.Reader(encoding="utf-8")
    while (reply := parser.gets()) is False:
        raw = await reader.read(262_144)
        if not raw:
            raise ConnectionResetError("Redis closed the connection.")
        parser.feed(raw)
    if isinstance(reply, hiredis.ReplyError):
        raise RuntimeError(str(reply))  # noqa: TRY004 - an answer of Redis, not a wrong type
    return reply


def _now() -> float:
    return asyncio.get_running_loop().time()
