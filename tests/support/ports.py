"""Ports of this machine for processes that keep theirs across restarts.

Each is handed out once in a test process, and parallel test processes have ranges of their own: a port whose process is
down for a moment must not be taken by another test.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

#: Below the ports that the kernel gives to outgoing connections: those of a server that is down for a moment must not
#: be taken by its own readers.
_FIRST: Final = 20_000
_LAST: Final = 32_000
#: More test processes than that share ranges.
_RANGES: Final = 12


def _own_range() -> range:
    """That of this test process; pytest-xdist numbers them."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _RANGES
    size = (_LAST - _FIRST) // _RANGES
    return range(_FIRST + number * size, _FIRST + (number + 1) * size)


def _shuffled() -> Iterator[int]:
    ports = list(_own_range())
    while True:
        random.Random().shuffle(ports)  # not by the seed of the run: two runs beside each other may have the same
        yield from ports


_ports = _shuffled()


def unused_port() -> int:
    """A port of this machine on which nothing listens, and which no outgoing connection will be given."""
    for _ in range(100):
        port = next(_ports)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError(f"No port is free of 100 tried in {_own_range()}.")
