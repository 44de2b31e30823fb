"""A reader that behaves as a browser's EventSource, over a plain socket, and hands all it gets to a witness.

It comes back with `Last-Event-ID` after the time that `retry:` names, whatever ended the response; 204 ends it, and so
does, for good, every other status but 200: a browser gives up then. A connection that is silent for three heartbeats
is replaced, as docs/api.md tells pages to do. Filters nothing and mends nothing. Imports nothing of the product.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from tests.chaos.sse import EventDecoder, Malformed, Message, Response

#: What browsers wait that were told nothing: three to five seconds. Less, for the run is short.
_UNTOLD_RETRY_SECONDS = 1.0
_CONNECT_SECONDS = 5.0


class Witness(Protocol):
    """Who is told what a reader saw."""

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def has_ended(self) -> bool:
        """Whether the newest event was a terminal one."""
        ...

    def connected(self, cursor: str) -> None: ...
    def saw(self, message: Message) -> None: ...
    def disconnected(self, how: str) -> None: ...


@dataclass
class Reader:
    """Follows one path on whichever of the addresses answers."""

    ports: Sequence[int]
    path: str
    witness: Witness
    random: Random
    #: Silence after which the connection is replaced.
    patience: float
    drops_after: float | None = None
    closes: bool = False
    cursor: str = ""
    connections: int = 0
    #: How it ended: `closed`, a status, or empty while it goes on.
    outcome: str = ""
    ended_at: float = 0.0
    #: Seconds waited before each reconnection.
    waits: list[float] = field(default_factory=list[float])
    _retry_seconds: float = _UNTOLD_RETRY_SECONDS

    async def follow(self) -> None:
        """Return once there is nothing to come back for."""
        while not self.outcome:
            if self.connections:
                wait = self._retry_seconds * self.random.uniform(1, 1.25)
                self.waits.append(wait)
                await asyncio.sleep(wait)
            self.connections += 1
            self.witness.connected(self.cursor)
            self.witness.disconnected(await self._connect())
        self.ended_at = self.witness.clock()

    async def _connect(self) -> str:
        """Read one response; how it ended."""
        port = self.random.choice(self.ports)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            return f"no connection: {type(error).__name__}"
        try:
            writer.write(self._request(port))
            async with asyncio.timeout(None) as stay:
                return await self._read(reader, stay)
        except TimeoutError:
            return "it left"
        except (OSError, Malformed) as error:
            return f"broken: {error!r}"
        finally:
            writer.close()

    def _leaves_at(self) -> float | None:
        """It stays until it is answered: a server may take its time to find out that a task is unknown."""
        if self.drops_after is None:
            return None
        return asyncio.get_running_loop().time() + self.drops_after * self.random.uniform(0.5, 1.5)

    async def _read(self, reader: asyncio.StreamReader, stay: asyncio.Timeout) -> str:
        response, decoder = Response(), EventDecoder(self.cursor)
        while not response.is_complete:
            try:
                async with asyncio.timeout(self.patience):
                    raw = await reader.read(65_536)
            except TimeoutError:
                return "silent"
            if not raw:
                return "cut off" if response.status else "no answer"
            body = response.feed(raw)
            if response.status and stay.when() is None:
                stay.reschedule(self._leaves_at())
            if response.status not in {0, 200}:
                self.outcome = str(response.status)
                return self.outcome
            if response.status and not response.content_type.startswith("text/event-stream"):
                self.outcome = f"200 {response.content_type}"
                return self.outcome
            if body and self._take(decoder, body):
                return self.outcome
        return "ended"

    def _take(self, decoder: EventDecoder, body: bytes) -> bool:
        """Whether the page closes here."""
        messages = decoder.feed(body)
        self.cursor = decoder.last_event_id
        if decoder.retry_ms is not None:
            self._retry_seconds = decoder.retry_ms / 1000
        for message in messages:
            self.witness.saw(message)
            if self.closes and self.witness.has_ended:
                self.outcome = "closed"
                return True
        return False

    def _request(self, port: int) -> bytes:
        lines = [
            f"GET {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Accept: text/event-stream",
            "Cache-Control: no-store",
            *([f"Last-Event-ID: {self.cursor}"] if self.cursor else []),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()
