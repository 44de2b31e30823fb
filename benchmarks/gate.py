"""Where the tasks of a benchmark wait until every subscriber is attached: a folder with two files.

The tasks' side counts who waits in `waiting`; the benchmark writes the moment to start into `go`. Files, because the
worker is a real one, started like any other, with which the benchmark shares nothing but the machine.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar, Final

_POLL_SECONDS: Final = 0.02


class Gate:
    """The benchmark's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        try:
            return int((self.folder / "waiting").read_text() or 0)
        except FileNotFoundError:
            return 0

    def open(self, at_ns: int) -> None:
        """Let the tasks start at this monotonic time."""
        _replace(self.folder / "go", str(at_ns))


class Barrier:
    """The tasks' side, one for each folder in a worker: many wait, one looks."""

    _by_folder: ClassVar[dict[str, Barrier]] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrived = 0
        self._told = 0
        self._looker = asyncio.create_task(self._look(), name="gate")

    @classmethod
    def at(cls, folder: str) -> Barrier:
        """The barrier of a folder, which all tasks of this process that name it share."""
        if folder not in cls._by_folder:
            cls._by_folder[folder] = cls(Path(folder))
        return cls._by_folder[folder]

    async def start_ns(self) -> int:
        """Wait; returns the monotonic time to start at."""
        self._arrived += 1
        return await asyncio.shield(self._looker)

    async def _look(self) -> int:
        while True:
            if self._told != self._arrived:
                self._told = self._arrived
                _replace(self._folder / "waiting", str(self._told))
            try:
                return int((self._folder / "go").read_text())
            except FileNotFoundError:
                await asyncio.sleep(_POLL_SECONDS)


def _replace(path: Path, text: str) -> None:
    """Whoever reads sees the old text or the new one."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)
