"""What a command says on stderr besides its result: how far it is, what it waits for, how it ended.

Invariant: stdout holds the result alone, and each note begins with `reprise:`. How far it is, is shown to a person who
watches, and to no file.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from server.cli.plain import plain


class Notes:
    """Notes of one command."""

    def __init__(self, *, is_busy: bool = False) -> None:
        """`is_busy` says that a terminal gets the result line by line, which shows how far it is."""
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._is_watched = self._console.is_terminal and not _is_typed() and not (is_busy and sys.stdout.isatty())
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._last_reason = ""
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            if kind is None:
                self.note(_stored(self._count))

    def progress(self, count: int) -> None:
        """So many lines are done."""
        self._count, self._last_reason = count, ""
        if not self._is_watched:
            return
        self._spinner.update(text=_stored(count))
        if self._live is None:
            # Redirected, what is printed to stdout would go where this goes.
            self._live = Live(
                self._spinner, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start(refresh=True)

    def wait(self, reason: str) -> None:
        """It is tried again; the same reason is told once."""
        if reason != self._last_reason:
            self.note(f"{reason.rstrip('.')}; trying again")
            self._last_reason = reason

    def note(self, text: str) -> None:
        """How it goes."""
        self._console.print(Text(f"reprise: {plain(text)}", "dim"), soft_wrap=True)

    def tell(self, sentence: str) -> None:
        """How it ended."""
        self._console.print(Text(f"reprise: {sentence}"), soft_wrap=True)


def _stored(count: int) -> str:
    return f"{count:,} line{'s' * (count != 1)} stored"


def _is_typed() -> bool:
    """Whether a person writes the input, and sees it. There is no stdin where it is closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def leave_stdout() -> None:
    """Nobody reads it any more: what is still to be written, at the end of the process too, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
