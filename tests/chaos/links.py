"""A TCP proxy on loopback that behaves as bad networks do: the way from one client, or several, to one listener.

Theory of operation
-------------------
A link passes bytes both ways, in order and unchanged, whatever its weather is; what differs is when, and for how long.

    clear       at once
    latency     each piece so many seconds later; nothing overtakes
    drip        so many bytes a second
    black hole  nothing passes, ends of connections neither; new ones are taken and nobody answers. TCP loses nothing:
                what was sent arrives in the end
    cut         each connection is cut off once it has passed so many more bytes, wherever that is; new ones too
    half-open   connections that stand are cut off from the listener, and their clients are not told: what they send
                is swallowed until `calm`. New ones pass. So fails a firewall that forgot them

Invariant: it holds about `_MOST_HELD` bytes for each direction, then reads no more from whoever sends: a slow way
slows the sender down, as TCP does. Knows nothing of what it passes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

_MOST_HELD = 65_536
#: How often a drip falls.
_DRIP_SECONDS = 0.02
#: For the listener to take a connection: it is on this machine.
_CONNECT_SECONDS = 5.0


class Link:
    """A listener of its own that passes on to `upstream`, a port of this machine."""

    def __init__(self, name: str, upstream: int, *, port: int = 0) -> None:
        """Without a `port`, `open` finds one."""
        self.name = name
        self.upstream = upstream
        self.port = port
        self.latency = 0.0
        #: Bytes a second; 0 for as many as come.
        self.drip = 0
        self.is_dark = False
        #: Bytes after which a connection is cut; None for never.
        self.cut_after: int | None = None
        self.pairs: set[Pair] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Pair(self).client, "127.0.0.1", self.port)
        self.port = cast("int", self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server:
            self._server.close()
        self.calm()
        for pair in list(self.pairs):
            pair.abort()
        if self._server:
            await self._server.wait_closed()

    def cut(self, after: int) -> None:
        """Cut every connection after so many more bytes, and new ones."""
        self.cut_after = after
        for pair in self.pairs:
            pair.budget = after

    def sever(self) -> None:
        """Leave the connections that stand half open."""
        for pair in list(self.pairs):
            pair.sever()

    def darken(self) -> None:
        self.is_dark = True

    def calm(self) -> None:
        """Clear weather again; connections that were left half open are over."""
        self.latency, self.drip, self.is_dark, self.cut_after = 0.0, 0, False, None
        for pair in list(self.pairs):
            pair.budget = None
            if pair.is_severed:
                pair.abort()
            pair.pump()


class Pair:
    """One connection: the client's end, the listener's end, and what is on its way between them."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.client = _End(self)
        self.listener = _End(self)
        self.client.peer, self.listener.peer = self.listener, self.client
        #: Bytes that may still pass; None for any number.
        self.budget = link.cut_after
        self.is_severed = False
        self._connecting: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        self.link.pairs.add(self)
        self._connecting = asyncio.create_task(self._connect(), name=f"connect {self.link.name}")

    def sever(self) -> None:
        self.is_severed = True
        self.listener.abort()
        self.client.inbox.clear()
        self.listener.inbox.clear()

    def abort(self) -> None:
        self.link.pairs.discard(self)
        if self._connecting:
            self._connecting.cancel()
        for end in (self.client, self.listener):
            end.abort()

    def pump(self) -> None:
        self.client.pump()
        self.listener.pump()

    def lost(self, end: _End) -> None:
        """One end has gone; the other is told behind all that was sent before."""
        if self.is_severed:
            if end is self.client:
                self.abort()
            return
        end.peer.push(None)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.create_connection(lambda: self.listener, "127.0.0.1", self.link.upstream)
        except OSError:  # a timeout is one too
            self.client.push(None)
        else:
            self.pump()


class _End(asyncio.Protocol):
    """What is sent to one side waits in its inbox until the weather lets it through."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        #: The other end; set by the pair.
        self.peer = self
        self._transport: asyncio.Transport | None = None
        #: When each piece may pass, and the piece; None for the end.
        self.inbox: deque[tuple[float, bytes | None]] = deque()
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = False
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self is self._pair.client:
            self._pair.accepted()
        elif self._is_over:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._pair.lost(self)

    def data_received(self, data: bytes) -> None:
        self.peer.push(data)

    def pause_writing(self) -> None:
        self._is_full = True
        self._throttle()

    def resume_writing(self) -> None:
        self._is_full = False
        self.pump()

    def push(self, piece: bytes | None) -> None:
        if self._pair.is_severed:
            return
        due = asyncio.get_running_loop().time() + self._pair.link.latency
        if self.inbox:
            due = max(due, self.inbox[-1][0])
        self.inbox.append((due, piece))
        self._held += len(piece or b"")
        self.pump()

    def pump(self) -> None:
        """Let through what may pass now, and see to the rest later."""
        link = self._pair.link
        if self._timer:
            self._timer.cancel()
            self._timer = None
        now = asyncio.get_running_loop().time()
        allowance = max(1, int(link.drip * _DRIP_SECONDS)) if link.drip else _MOST_HELD * 1024
        while self.inbox and self._can_write() and not link.is_dark and allowance > 0:
            due, piece = self.inbox[0]
            if due > now:
                self._later(due - now)
                break
            self.inbox.popleft()
            if piece is None:
                self._finish()
                return
            passing, kept = piece[:allowance], piece[allowance:]
            allowance -= len(passing)
            if kept:
                self.inbox.appendleft((due, kept))
            self._held -= len(passing)
            if not self._write(passing):
                return
        if self.inbox and link.drip and not link.is_dark and self._timer is None:
            self._later(_DRIP_SECONDS)
        self._throttle()

    def abort(self) -> None:
        self._is_over = True
        if self._timer:
            self._timer.cancel()
        if self._transport:
            self._transport.abort()

    def _can_write(self) -> bool:
        return self._transport is not None and not self._is_full and not self._is_over

    def _write(self, piece: bytes) -> bool:
        """False if that was the end of the connection."""
        assert self._transport
        budget = self._pair.budget
        if budget is not None and len(piece) >= budget:
            self._transport.write(piece[:budget])
            self._pair.abort()
            return False
        if budget is not None:
            self._pair.budget = budget - len(piece)
        self._transport.write(piece)
        return True

    def _finish(self) -> None:
        self._pair.link.pairs.discard(self._pair)
        self._is_over = True
        if self._transport:
            self._transport.close()

    def _later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.pump)

    def _throttle(self) -> None:
        """Read from whoever sends only while there is room."""
        sender: Any = self.peer._transport
        if sender is None or sender.is_closing():
            return
        if self._held > _MOST_HELD or self._is_full:
            sender.pause_reading()
        else:
            sender.resume_reading()


#: A fault of a link, by its kind: how it begins. It ends with `calm`.
WEATHERS: dict[str, Callable[[Link, float], None]] = {
    "latency": lambda link, amount: setattr(link, "latency", amount),
    "drip": lambda link, amount: setattr(link, "drip", int(amount)),
    "cut": lambda link, amount: link.cut(int(amount)),
    "half-open": lambda link, _: link.sever(),
    "black-hole": lambda link, _: link.darken(),
}
