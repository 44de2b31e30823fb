"""A relay between a client and Redis that passes bytes on as they come, or in small pieces, or with some added.

For connections on which Redis speaks first; `FaultProxy` is for those that ask and get an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import hiredis

#: A certificate for 127.0.0.1 that nobody trusts but these tests, and its key.
_PEM = Path(__file__).with_name("tls.pem")
#: HELLO, CLIENT SETNAME, CLIENT SETINFO twice.
_GREETING_REPLIES = 4


class Relay:
    """Passes on to one server. What it adds comes as if Redis had sent it."""

    def __init__(self, upstream_url: str) -> None:
        self._upstream = upstream_url.removeprefix("unix://")
        self._clients: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        #: Bytes per piece of what Redis sends; each in a write of its own. 0 for as they come.
        self.piece = 0
        #: Added to the last reply of the next connection's greeting.
        self.after_greeting = b""
        self.url = ""

    def add(self, raw: bytes) -> None:
        """Send bytes to every client, in between what Redis sends."""
        for client in self._clients:
            client.write(raw)

    def cut(self) -> None:
        """Close every connection."""
        for client in self._clients:
            client.close()

    async def end(self) -> None:
        """Wait until nothing is passed on any more."""
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving
        serving.set_name("relay")
        self._serving.add(serving)
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._upstream)
        self._clients.add(writer)
        asking = asyncio.create_task(self._pass_requests(reader, upstream_writer), name="relay requests")
        with contextlib.suppress(OSError):
            await self._pass_replies(upstream_reader, writer)
        self._clients.discard(writer)
        asking.cancel()
        for each in (writer, upstream_writer):
            each.close()
        self._serving.discard(serving)

    async def _pass_requests(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while raw := await reader.read(65536):
                upstream.write(raw)
        upstream.close()

    async def _pass_replies(self, upstream: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        parser, greeted = hiredis.Reader(), 0
        while raw := await upstream.read(65536):
            if greeted < _GREETING_REPLIES:
                parser.feed(raw)
                while parser.gets() is not False:
                    greeted += 1
                if greeted >= _GREETING_REPLIES:
                    raw, self.after_greeting = raw + self.after_greeting, b""
            for start in range(0, len(raw), self.piece or len(raw)):
                client.write(raw[start : start + (self.piece or len(raw))])
                await asyncio.sleep(0)  # another turn, another write
                await client.drain()


@asynccontextmanager
async def relaying(upstream_url: str, *, tls: bool = False) -> AsyncGenerator[Relay]:
    """A relay on a port of this machine, which speaks TLS to its clients if asked to."""
    relay = Relay(upstream_url)
    async with await asyncio.start_server(relay.accept, "127.0.0.1", 0, ssl=_tls() if tls else None) as server:
        port = server.sockets[0].getsockname()[1]
        relay.url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={_PEM}" if tls else f"redis://127.0.0.1:{port}/0"
        yield relay
        relay.cut()
        await relay.end()


def _tls() -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(_PEM)
    return found
