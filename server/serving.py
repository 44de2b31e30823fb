"""uvicorn as Reprise runs it: our listening socket, our drain, one process.

Theory of operation of a stop
-----------------------------
1. SIGTERM or SIGINT. The socket goes on listening: a balancer needs a moment to see that this server is not ready any
   more, and who comes until then is answered. Each connection is let go with its next answer.
2. The application ends its streams, spread over the time there is (`server.app`).
3. The socket is closed. Idle connections are closed; requests that are under way have the rest of the time.
4. What is left at the deadline is cut off: its client sees a broken connection, and its task ends with a disconnect.

A second signal skips the waiting: streams end at once, requests have one second. A third ends the process where it
stands.
Invariant: without a third signal the process exits with 0, and what it says of a stop that went well is no warning.
Knows nothing of routes or Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, TypeAlias

import uvicorn

from server.app import create_app
from server.connection import StreamingConnection
from server.listening import BACKLOG, address_of, listen
from server.open_files import RESERVE, OpenFiles, raise_limit
from server.settings import ServerSettings

_logger = logging.getLogger(__name__)

#: Takes a function that tells whether somebody is in a hurry.
Drain: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]

#: For requests that are under way when somebody is in a hurry.
_URGENT_SECONDS: Final = 1.0
#: For those that were cut off, to hear of it: above the time after which a command to a frozen Redis is given up.
_CUT_SECONDS: Final = 6.0
_POLL_SECONDS: Final = 0.05
#: Above what proxies keep an idle connection for (nginx: 60), so that a request never meets our closing it.
_KEEP_ALIVE_SECONDS: Final = 75


def run_server(settings: ServerSettings, *, listeners: list[socket.socket] | None = None) -> int:
    """Serve until told to stop; returns the exit code. Raises `CannotStart` if the port is taken.

    `listeners` are sockets that already listen, from a parent that keeps them open while we are restarted.
    """
    files = OpenFiles(raise_limit(settings.max_connections + RESERVE))
    files.warn_if_too_few(settings.max_connections)
    sockets = listeners or listen(settings.host, settings.port, stall_seconds=settings.stall_seconds)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_told_of(files),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    server = DrainingServer(config, drain=app.state.drain, drain_seconds=settings.drain_seconds)
    try:
        server.run(sockets=sockets)
    except SystemExit as refused:  # how uvicorn ends when the application does not start; it has said why
        return refused.code if isinstance(refused.code, int) else 1
    return 0


def _told_of(files: OpenFiles) -> type[StreamingConnection]:
    class Connection(StreamingConnection):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            files.opened(transport.get_extra_info("socket").fileno())

    return Connection


class DrainingServer(uvicorn.Server):
    """A stop in order, instead of uvicorn's."""

    def __init__(self, config: uvicorn.Config, *, drain: Drain, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._signals = 0

    @property
    def is_urgent(self) -> bool:
        """Whether somebody has asked twice."""
        return self._signals > 1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            _logger.info("serving on %s", address_of(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        _logger.info("draining for at most %g s", self._drain_seconds)
        for connection in self._connections:
            if not _is_idle(connection):
                connection.shutdown()  # it is closed with the end of its response
        try:
            await self._drain(lambda: self.is_urgent)
        except Exception:  # one supervised step: what follows closes everything anyway
            _logger.exception("the drain failed; open responses are cut")
        for listening in [*self.servers, *(sockets or [])]:
            listening.close()
        for connection in self._connections:
            connection.shutdown()
        await self._finish_requests(deadline)
        await self.lifespan.shutdown()
        _logger.info("stopped")

    async def _finish_requests(self, deadline: float) -> None:
        # Streams may have taken all the time: those that were closed or cut just now need a moment to be gone.
        moment = asyncio.get_running_loop().time() + _URGENT_SECONDS
        await self._until_nothing_is_left(max(deadline, moment))
        if left := self._connections:
            _logger.warning("%d connection(s) did not come to an end in time and are cut off", len(left))
        for connection in left:
            connection.transport.abort()
        await self._until_nothing_is_left(asyncio.get_running_loop().time() + _CUT_SECONDS, may_hurry=False)
        for task in self.server_state.tasks:
            task.cancel()

    async def _until_nothing_is_left(self, deadline: float, *, may_hurry: bool = True) -> None:
        loop = asyncio.get_running_loop()
        while (self.server_state.connections or self.server_state.tasks) and loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            if may_hurry and self.is_urgent:
                deadline = min(deadline, loop.time() + _URGENT_SECONDS)

    @property
    def _connections(self) -> list[Any]:
        return list(self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take SIGTERM and SIGINT and do not raise them again: a stop that was asked for is no failure.

        The handler is a plain function on purpose: sse-starlette looks for a uvicorn server behind a bound
        one and would cut every stream half a second later, in the middle of the drain.
        """

        def stop(_number: int, _frame: object) -> None:
            self._signals += 1
            self.should_exit = True
            if self._signals > 2:
                os._exit(1)

        handled = (signal.SIGTERM, signal.SIGINT)
        before = {each: signal.signal(each, stop) for each in handled}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def _is_idle(connection: Any) -> bool:
    """Whether no response is under way on it."""
    if isinstance(connection, StreamingConnection):
        return connection.is_idle
    return connection.cycle is None or connection.cycle.response_complete
