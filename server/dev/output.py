"""Lines of all processes on one terminal, each with the name of who said it.

Invariant: lines are never mixed, and a terminal that has gone away stops nobody.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Final

from server.streams.diagnostics import has_colours

_CHUNK_BYTES: Final = 65_536
#: A line without an end is passed on in parts, so that no process can fill our memory.
_LONGEST_LINE_BYTES: Final = 262_144
_COLOURS: Final = {"valkey": 35, "server": 36, "worker": 32, "reprise": 1}


class Output:
    """Where every line goes."""

    def __init__(self, *, width: int) -> None:
        self.has_colours = has_colours(sys.stdout)
        self._width = width

    def line(self, name: str, text: str) -> None:
        """Show one line of the process `name`."""
        label = name.ljust(self._width)
        if self.has_colours:
            colour = _COLOURS.get(name.rstrip("0123456789 -"), 0)
            label = f"\x1b[{colour}m{label}\x1b[0m"
        self.plain(f"{label} | {text}")

    def plain(self, text: str) -> None:
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            # The terminal is gone. Who closed it ends us by signal, or wants us to go on.
            return

    async def copy(self, name: str, reader: asyncio.StreamReader, *, unless: str | None = None) -> None:
        """Show what a process says until it closes its end, but for lines that hold `unless`."""
        async for line in split_lines(reader):
            text = line.decode(errors="replace").rstrip()
            if unless is None or unless not in text:
                self.line(name, text)


async def split_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines without their ends; the last one may have none, and an overlong one comes in parts."""
    rest = b""
    while chunk := await reader.read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _LONGEST_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest
