"""uvicorn as Reprise runs it: our listening socket, our drain, one process.

Invariant: SIGTERM or SIGINT ends every stream through the application's drain before anything is cut, and the
process then exits with 0. Knows nothing of routes or Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Final

import uvicorn

from server.app import create_app
from server.settings import ServerSettings
from server.streams.settings import CannotStart

log = logging.getLogger(__name__)

#: Every reader of a replica that died may knock at once; the kernel caps this at net.core.somaxconn.
_BACKLOG: Final = 4096
#: What is left for responses that the drain should have ended, when it used up its time.
_LAST_SECONDS: Final = 1
#: `localhost` has an IPv6 address by name also where IPv6 is off.
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def run_server(settings: ServerSettings, *, listeners: list[socket.socket] | None = None) -> int:
    """Serve until told to stop; returns the exit code. Raises `CannotStart` if the port is taken.

    `listeners` are sockets that already listen, from a parent that keeps them open while we are restarted.
    """
    sockets = listeners or listen(settings.host, settings.port)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    server = DrainingServer(config, drain=app.state.drain, drain_seconds=settings.drain_seconds)
    try:
        server.run(sockets=sockets)
    except SystemExit as refused:  # how uvicorn ends when the application does not start; it has said why
        return refused.code if isinstance(refused.code, int) else 1
    return 0


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that `host` stands for. Raises `CannotStart` with the reason."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CannotStart(
            f"The host {host!r} has no address on this machine: {error}. Change --host."
        ) from None
    sockets: list[socket.socket] = []
    for family, _type, _protocol, _name, address in dict.fromkeys(found):
        # Port 0 takes a free one: the further addresses take the same.
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_listener(family, (str(address[0]), chosen)))
        except OSError as error:
            if error.errno in _ABSENT and len(found) > 1:
                continue
            for opened in sockets:
                opened.close()
            raise CannotStart(_refusal(host, port, error)) from None
    if not sockets:
        raise CannotStart(f"No address of the host {host!r} is on this machine. Change --host.")
    return sockets


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket, as a person on this machine may open it."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listener(family: int, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` and `0.0.0.0` side by side are two sockets.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program. Stop it, or choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} may only be opened by root. Choose one above 1023 with --port."
    return f"Cannot listen on {host} port {port}: {error.strerror or error}. Change --host or --port."


class DrainingServer(uvicorn.Server):
    """Asks the application to drain before connections are closed."""

    def __init__(
        self, config: uvicorn.Config, *, drain: Callable[[], Awaitable[None]], drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            log.info("serving on %s", address_of(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        log.info("draining for at most %g s", self._drain_seconds)
        try:
            async with asyncio.timeout_at(deadline):
                await self._drain()
        except TimeoutError:
            log.warning("the drain took longer than %g s; what is left is cut", self._drain_seconds)
        except Exception:  # one supervised step: what follows closes everything anyway
            log.exception("the drain failed; open responses are cut")
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
