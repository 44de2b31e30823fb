"""A proxy between a client and Redis that loses a chosen request or reply and cuts the connection, as networks do.

It answers one command after the other, so a test says "lose the reply of the next append" and means that one. Scripts
are chosen by name, other commands by their first word. Not for pub/sub: replies are counted, pushes are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final, Self

import hiredis

from server.streams import calls

#: What a client says when it connects; these are never chosen.
_GREETINGS: Final = frozenset({b"HELLO", b"CLIENT", b"AUTH", b"SELECT"})
_FILES: Final = [file.name for file in (files("server.streams") / "scripts").iterdir()]
_SCRIPTS: Final = [name.removesuffix(".lua") for name in _FILES if not name.startswith("_")]


@dataclass
class Fault:
    """Something that will happen to the chosen command, once."""

    name: str
    #: Matching commands that pass before it.
    skip: int
    #: Whether Redis runs the command: its reply is lost then; otherwise the request is.
    reaches_redis: bool
    #: Awaited before the connection is cut (or, for a held reply, before the reply goes on).
    meanwhile: Callable[[], Awaitable[object]] | None = None
    cuts: bool = True
    #: Set once it happened.
    happened: asyncio.Event = field(default_factory=asyncio.Event)


class FaultProxy:
    """Listens on a unix socket of its own and passes on to the server's."""

    def __init__(self, upstream_url: str) -> None:
        self._upstream = upstream_url.removeprefix("unix://")
        self._folder = tempfile.TemporaryDirectory(prefix="reprise-proxy-")
        self._socket = Path(self._folder.name) / "proxy.sock"
        self.url = f"unix://{self._socket}"
        self._server: asyncio.Server | None = None
        self._faults: list[Fault] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._is_down = False
        #: Commands and scripts that reached Redis, by name.
        self.passed: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._folder.cleanup()

    def lose_reply(
        self, name: str, *, skip: int = 0, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> asyncio.Event:
        """Let Redis run the command and cut the connection instead of passing the reply on."""
        return self._add(Fault(name, skip, reaches_redis=True, meanwhile=meanwhile))

    def lose_request(
        self, name: str, *, skip: int = 0, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> asyncio.Event:
        """Cut the connection before Redis sees the command."""
        return self._add(Fault(name, skip, reaches_redis=False, meanwhile=meanwhile))

    def hold_reply(self, name: str, until: Callable[[], Awaitable[object]], *, skip: int = 0) -> asyncio.Event:
        """Let Redis run the command and pass the reply on when `until` is done: it is then as old as that."""
        return self._add(Fault(name, skip, reaches_redis=True, meanwhile=until, cuts=False))

    def go_down(self) -> None:
        """Cut every connection, and every new one at once."""
        self._is_down = True
        self.cut()

    def come_back(self) -> None:
        self._is_down = False

    def cut(self) -> None:
        """Cut every connection that stands."""
        for writer in self._writers:
            writer.close()

    def _add(self, fault: Fault) -> asyncio.Event:
        self._faults.append(fault)
        return fault.happened

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down:
            writer.close()
            return
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._upstream)
        self._writers |= {writer, upstream_writer}
        serving = asyncio.current_task()
        assert serving
        self._serving.add(serving)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._pass_on(reader, writer, upstream_reader, upstream_writer)
        finally:
            for each in (writer, upstream_writer):
                each.close()
                self._writers.discard(each)
            self._serving.discard(serving)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            raw, words = await _read_command(reader)
            fault = self._fault_for(words, reaches_redis=False)
            if fault:
                await self._happen(fault)
                return
            upstream_writer.write(raw)
            reply = await _read_reply(upstream_reader)
            # After NOSCRIPT the script follows, and is what was meant.
            if not reply.startswith(b"-NOSCRIPT") and words[0].upper() not in _GREETINGS:
                self.passed.append(_name(words))
                fault = self._fault_for(words, reaches_redis=True)
            if fault:
                await self._happen(fault)
                if fault.cuts:
                    return
            writer.write(reply)
            await writer.drain()

    def _fault_for(self, words: list[bytes], *, reaches_redis: bool) -> Fault | None:
        if words[0].upper() in _GREETINGS:
            return None
        for fault in self._faults:
            if fault.name == _name(words) and fault.reaches_redis == reaches_redis:
                if fault.skip == 0:
                    self._faults.remove(fault)
                    return fault
                fault.skip -= 1
        return None

    async def _happen(self, fault: Fault) -> None:
        if fault.meanwhile:
            await fault.meanwhile()
        fault.happened.set()


def _name(words: list[bytes]) -> str:
    command = words[0].upper().decode()
    if command not in {"EVAL", "EVALSHA"}:
        return command
    given = words[1].decode()
    return next((name for name in _SCRIPTS if given in {calls.script(name).sha, calls.script(name).text}), command)


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    raw = await reader.readuntil(b"\r\n")
    words: list[bytes] = []
    for _ in range(int(raw[1:])):
        head = await reader.readuntil(b"\r\n")
        body = await reader.readexactly(int(head[1:]) + 2)
        raw += head + body
        words.append(body[:-2])
    return raw, words


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    parser, raw = hiredis.Reader(), b""
    while True:
        chunk = await reader.read(65536)
        if not chunk:
            raise ConnectionResetError
        raw += chunk
        parser.feed(chunk)
        if parser.gets() is not False:
            return raw
