"""Followed events on stdout: a coloured line for a person, JSON or bare data for programs.

Invariant: what a program is given is the data as it was received; what a terminal is given cannot control it.
"""

from __future__ import annotations

import json
import sys
import zlib
from typing import Any, Final, Literal, cast

from rich.console import Console
from rich.text import Text

from server.cli.decoding import Received
from server.cli.plain import plain, plain_json
from server.cli.screen import parsed

Style = Literal["text", "json", "raw"]

#: They move the cursor or keep the connection; nothing has happened.
_SILENT: Final = frozenset({"position", "heartbeat", "open"})
#: Told with the name of their stream, and without an id.
TOLD: Final = frozenset({"gap", "stalled"})
_COLOURS: Final = {
    "complete": "bold green",
    "error": "bold red",
    "cancelled": "bold yellow",
    "attempt": "bold",
    "checkpoint": "bold",
}
#: For all other types, each always the same; without red and yellow, which look like trouble.
_PALETTE: Final = ("cyan", "green", "blue", "magenta", "bright_cyan", "bright_green", "bright_blue", "bright_magenta")


class Printer:
    """Prints the events of one target."""

    def __init__(self, style: Style, streams: tuple[str, ...], types: tuple[str, ...]) -> None:
        self._style = style
        self._streams = streams
        #: Of a program's types only these; all if empty. The server was asked for the same, and may not know how.
        self._types = frozenset(types)
        self._console = Console(highlight=False)

    def stream_of(self, received: Received) -> str | None:
        """The stream that an event is of; None if nobody can tell."""
        if received.type in TOLD:
            data = parsed(received.data)
            return str(cast("dict[str, Any]", data).get("stream")) if isinstance(data, dict) else None
        if received.has_id and ":" in received.id:
            return received.id.partition(":")[0]
        return self._streams[0] if len(self._streams) == 1 else None

    def show(self, received: Received, *, is_own: bool) -> None:
        """Print an event. `is_own` says that its type is Reprise's, which no filter leaves out."""
        if received.type in _SILENT or not (is_own or not self._types or received.type in self._types):
            return
        if self._style == "json":
            self._write(self._json(received))
        elif received.type in TOLD:
            pass  # a person is told on stderr, and bare data says nothing of it
        elif self._style == "raw":
            self._write(plain(received.data) if self._console.is_terminal else received.data)
        else:
            self._line(received)

    def _json(self, received: Received) -> str:
        event = {
            "stream": self.stream_of(received),
            "id": received.id if received.has_id else None,
            "type": received.type,
            "data": received.data,
        }
        return plain_json(json.dumps(event, ensure_ascii=False))

    def _line(self, received: Received) -> None:
        colour = _COLOURS.get(received.type) or _PALETTE[zlib.crc32(received.type.encode()) % len(_PALETTE)]
        name = self.stream_of(received) if len(self._streams) != 1 else None
        event_type = plain(received.type)
        data = plain(received.data).replace("\n", "\n  ")
        line = Text.assemble((f"{name} " if name else "", "dim"), (event_type, colour), f" {data}")
        if self._console.is_terminal:
            self._console.print(line, soft_wrap=True)
        else:
            self._write(line.plain)

    def _write(self, text: str) -> None:
        # Each is out when it has come: whoever reads the pipe waits for it.
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
