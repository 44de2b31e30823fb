"""Whether a worker of this machine is alive: `python -m workers.health`, for a container's health check.

A worker has no port to ask. It says in Redis every few seconds that it lives, so the question goes there. Exits with 0,
or with 1 and a sentence.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import aclosing

from server.streams.connections import connect
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.registry import Registry
from server.streams.settings import CannotStart, load_settings
from workers.settings import WorkerSettings


def main() -> None:
    try:
        settings = load_settings(WorkerSettings)
        alive = asyncio.run(_live_workers(settings))
    except (CannotStart, LogUnavailable) as error:
        sys.exit(str(error))
    machine = settings.name or socket.gethostname()
    # A worker's name ends with a nonce of its process.
    if machine not in {name.rpartition("-")[0] for name in alive}:
        sys.exit(f"No worker named {machine!r} has said lately that it lives. Look at its log.")


async def _live_workers(settings: WorkerSettings) -> list[str]:
    async with aclosing(connect(settings.redis_url.get_secret_value(), name="reprise-health")) as client:
        return list(await Registry(client, Keys(settings.prefix)).live_workers())


if __name__ == "__main__":
    main()
