"""uvicorn as Reprise runs it: our listening socket, our drain, one process.

Invariant: SIGTERM or SIGINT ends every stream through the application's drain before anything is cut, and the
process then exits with 0. Knows nothing of routes or Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Final

import uvicorn

from server.app import create_app
from server.connection import StreamingConnection
from server.listening import BACKLOG, address_of, listen
from server.settings import ServerSettings

_logger = logging.getLogger(__name__)

#: What is left for responses that the drain should have ended, when it used up its time.
_LAST_SECONDS: Final = 1
#: Above what proxies keep an idle connection for (nginx: 60), so that a request never meets our closing it.
_KEEP_ALIVE_SECONDS: Final = 75


def run_server(settings: ServerSettings, *, listeners: list[socket.socket] | None = None) -> int:
    """Serve until told to stop; returns the exit code. Raises `CannotStart` if the port is taken.

    `listeners` are sockets that already listen, from a parent that keeps them open while we are restarted.
    """
    sockets = listeners or listen(settings.host, settings.port, stall_seconds=settings.stall_seconds)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=StreamingConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    server = DrainingServer(config, drain=app.state.drain, drain_seconds=settings.drain_seconds)
    try:
        server.run(sockets=sockets)
    except SystemExit as refused:  # how uvicorn ends when the application does not start; it has said why
        return refused.code if isinstance(refused.code, int) else 1
    return 0


class DrainingServer(uvicorn.Server):
    """Asks the application to drain before connections are closed."""

    def __init__(self, config: uvicorn.Config, *, drain: Callable[[], Awaitable[None]], drain_seconds: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            _logger.info("serving on %s", address_of(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        _logger.info("draining for at most %g s", self._drain_seconds)
        try:
            async with asyncio.timeout_at(deadline):
                await self._drain()
        except TimeoutError:
            _logger.warning("the drain took longer than %g s; what is left is cut", self._drain_seconds)
        except Exception:  # one supervised step: what follows closes everything anyway
            _logger.exception("the drain failed; open responses are cut")
        self.config.timeout_graceful_shutdown = max(_LAST_SECONDS, math.ceil(deadline - loop.time()))
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take SIGTERM and SIGINT and do not raise them again: a stop that was asked for is no failure.

        The handler is a plain function on purpose: sse-starlette looks for a uvicorn server behind a bound
        one and would cut every stream half a second later, in the middle of the drain.
        """

        def stop(received: int, _frame: object) -> None:
            self.force_exit = self.should_exit and received == signal.SIGINT
            self.should_exit = True

        handled = (signal.SIGTERM, signal.SIGINT)
        before = {each: signal.signal(each, stop) for each in handled}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
