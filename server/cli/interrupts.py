"""Ctrl-C between two steps and not within one, so that what is told of them afterwards is true.

Invariant: the first Ctrl-C ends the step that is under way and nothing more; the second one ends it at once, for a step
may wait for whoever reads the pipe.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Takes SIGINT over where it would raise `KeyboardInterrupt`: in the main thread, and not where it is ignored."""

    def __init__(self) -> None:
        self._is_taken_over = False
        self._is_held = False
        self._is_asked = False

    def __enter__(self) -> Self:
        is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_ours and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._take)
            self._is_taken_over = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_taken_over:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def held(self) -> Generator[None]:
        """One step. Raises `KeyboardInterrupt` at its end if that was asked for."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._is_asked:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        if not self._is_held or self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True
