"""A way between one process and Redis that can be parted as networks are: nothing arrives, and nobody is told.

Connections stay open, new ones are accepted and hear nothing. What was sent meanwhile arrives when it heals, as after
retransmission. Knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Link:
    """Passes on to a server on a unix socket until it is parted."""

    def __init__(self, upstream_url: str) -> None:
        self._upstream = upstream_url.removeprefix("unix://")
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._passing: set[asyncio.Task[None]] = set()
        self.url = ""

    def part(self) -> None:
        self._is_whole.clear()

    def heal(self) -> None:
        self._is_whole.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = asyncio.current_task()
        assert passing
        self._passing.add(passing)
        try:
            await self._is_whole.wait()
            upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._upstream)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, upstream_writer), name="link to Redis")
                group.create_task(self._pass(upstream_reader, writer), name="link from Redis")
        finally:
            writer.close()
            self._passing.discard(passing)

    async def end(self) -> None:
        for passing in tuple(self._passing):
            passing.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while raw := await reader.read(65536):
                    await self._is_whole.wait()
                    writer.write(raw)
                    await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def linked(upstream_url: str) -> AsyncGenerator[Link]:
    """A link on a port of this machine."""
    link = Link(upstream_url)
    async with await asyncio.start_server(link.accept, "127.0.0.1", 0) as server:
        link.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        try:
            yield link
        finally:
            server.close()
            await link.end()
