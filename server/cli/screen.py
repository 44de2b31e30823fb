"""What a followed task looks like on a terminal: a bar for progress, text as it arrives, a line for all else.

All of it goes to stderr, so that stdout holds the result alone; and nothing of a task can control the terminal.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from server.cli.decoding import Received
from server.cli.plain import plain

#: Characters of an error beside the bar; the end of a failed task tells it whole.
_LONGEST_ERROR: Final = 300


class Screen:
    """Shows events in the order in which they come."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        #: Tokens of a line that has no end yet, while a bar keeps the last line of the terminal.
        self._partial = ""
        self._is_mid_line = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_line()
        if self._progress is not None:
            self._progress.stop()

    def show(self, received: Received) -> None:
        """Show one event, but a terminal one: its outcome is the caller's to tell."""
        data = parsed(received.data)
        match received.type, data:
            case "progress", {"percentage": int() | float() as percentage}:
                self._advance(percentage, plain(str(data.get("message") or "")))
            case "token", {"text": str() as text}:
                self._write(plain(text))
            case "attempt", {"attempt": int() as attempt}:
                if attempt > 1:
                    self.note(_attempt(attempt, data))
            case "gap", _:
                self.note(f"events are missing here: {received.data}")
            case "stalled", {"reason": "retry", "error": str() as error, "not_before": str() as not_before}:
                self.note(f"tried again at {not_before}, for the attempt failed: {error[:_LONGEST_ERROR]}")
            case "stalled", _:
                self.note("its worker is silent; waiting for it or another one")
            case (("position" | "heartbeat" | "open" | "checkpoint"), _):
                pass
            case _:
                self._line(f"[bold]{escape(received.type)}[/] {escape(plain(_brief(data)))}")

    def fill_bar(self) -> None:
        """The task is complete, whatever its last progress said."""
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=100)

    def note(self, text: str) -> None:
        """Say something of our own, perhaps about what a task has said."""
        self._line(f"[dim]{escape(plain(text))}[/]")

    def _line(self, markup: str) -> None:
        self._end_line()
        self._console.print(markup, soft_wrap=True)

    def _advance(self, percentage: float, message: str) -> None:
        self._end_line()
        if self._progress is None:
            self._progress = Progress(
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar = self._progress.add_task(message, total=100)
            self._progress.start()
        if self._bar is not None:
            self._progress.update(self._bar, completed=percentage, description=message)

    def _write(self, text: str) -> None:
        if self._progress is None:
            self._console.print(text, end="", markup=False, soft_wrap=True)
            self._is_mid_line = not text.endswith("\n")
            return
        # Above a live bar only whole lines can be written.
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)

    def _end_line(self) -> None:
        if self._partial:
            self._console.print(self._partial, markup=False, soft_wrap=True)
            self._partial = ""
        if self._is_mid_line:
            self._console.print()
            self._is_mid_line = False


def parsed(data: str) -> Any:
    """The data as JSON if it is; as text otherwise."""
    try:
        return json.loads(data)
    except ValueError:
        return data


def _brief(data: Any) -> str:
    match data:
        case str() as text:
            return text
        case {"text": str() as text, **rest} if not rest:
            return text
        case _:
            return json.dumps(data, ensure_ascii=False)


def _attempt(attempt: int, data: dict[str, Any]) -> str:
    why = {"worker_lost": "its worker died or was stopped", "retry": "it failed", "rerun": "it was asked for again"}
    reason = why.get(str(data.get("reason")), str(data.get("reason")))
    void = "what came after its last checkpoint is void" if data.get("resume_from") else "what came before is void"
    return f"attempt {attempt}, because {reason}; {void}"
