"""The listening socket: tuned by us, and with a sentence for each reason why there is none."""

from __future__ import annotations

import errno
import socket
from typing import Final

from server.streams.settings import CannotStart

#: Every reader of a replica that died may knock at once; the kernel caps this at net.core.somaxconn.
BACKLOG: Final = 4096
#: Of the kernel, for what a reader has not taken; it doubles this. By itself it grows to about 4 MiB for a reader that
#: takes nothing, so that stale events fill the memory and the server hears nothing of it. With this it is 0.3 MiB.
SEND_BUFFER_BYTES: Final = 65_536
#: `localhost` has an IPv6 address by name also where IPv6 is off.
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def listen(host: str, port: int, *, stall_seconds: float = 60.0) -> list[socket.socket]:
    """Listen on every address that `host` stands for. Raises `CannotStart` with the reason.

    `stall_seconds` is how long a connection may leave what was sent unacknowledged before the kernel gives it up.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CannotStart(f"The host {host!r} has no address on this machine: {error}. Change --host.") from None
    sockets: list[socket.socket] = []
    for family, _type, _protocol, _name, address in dict.fromkeys(found):
        # Port 0 takes a free one: the further addresses take the same.
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_listener(family, (str(address[0]), chosen), stall_seconds))
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


def _listener(family: int, address: tuple[str, int], stall_seconds: float) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit these.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: also ends readers that acknowledge and never read
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_seconds * 1000))
        if family == socket.AF_INET6:
            # `::` and `0.0.0.0` side by side are two sockets.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
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
