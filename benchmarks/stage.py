"""What a scenario is given: peers to start, a folder, processors, and a line on the screen.

Invariant: each peer starts from nothing, in a folder of its own, and is gone before the next one starts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.nchan import running_nchan
from benchmarks.peers.peer import Design, Peer, Replaceable, Site
from benchmarks.peers.reprise import Reprise, running_reprise
from benchmarks.peers.tutorial import running_tutorial

#: Below, there is nothing to divide.
_FEWEST_TO_PLACE: Final = 2


@dataclass(frozen=True, slots=True)
class Placement:
    """Processors: one for the process that is measured, the others for everything else. Alike for every peer."""

    measured: tuple[int, ...]
    others: tuple[int, ...]

    @classmethod
    def of_this_machine(cls) -> Placement:
        cpus = sorted(os.sched_getaffinity(0))
        return cls((), ()) if len(cpus) < _FEWEST_TO_PLACE else cls((cpus[0],), tuple(cpus[1:]))

    def __str__(self) -> str:
        if not self.measured:
            return "one processor for all"
        others = ", ".join(map(str, self.others))
        placed = f"the measured process on processor {self.measured[0]}, everything else on {others}"
        return f"{placed}; in (c) and (d) all where the kernel likes"


class Stage:
    """One run of the benchmark."""

    def __init__(self, folder: Path, *, on_step: Callable[[str, float], None]) -> None:
        """`on_step` is told what goes on, and how much of it is done (0 to 1)."""
        self._folder = folder
        self._on_step = on_step
        self._numbers = itertools.count(1)
        self.placement = Placement.of_this_machine()

    def step(self, text: str, share: float = 0.0) -> None:
        self._on_step(text, share)

    @contextlib.contextmanager
    def peer(self, design: Design, *, is_placed: bool = True) -> Generator[Peer]:
        """A contender, running; its server is what is measured.

        `is_placed` is false where what writes needs more than is left beside the server: then the kernel places all.
        """
        if design is Design.NCHAN:
            self.step("starting")
            with running_nchan(self._site(design.value, is_placed=is_placed)) as nchan:
                yield nchan
        else:
            with self.replaceable(design, is_placed=is_placed) as peer:
                yield peer

    @contextlib.contextmanager
    def replaceable(self, design: Design, *, is_placed: bool = True) -> Generator[Replaceable]:
        """A contender whose server may be killed. Nchan is none: events are published to its server."""
        self.step("starting")
        site = self._site(design.value, is_placed=is_placed)
        if design is Design.REPRISE:
            with running_reprise(site) as reprise:
                yield reprise
        elif design is Design.TUTORIAL:
            with running_tutorial(site) as tutorial:
                yield tutorial
        else:
            raise ValueError(f"The server of {design.value!r} cannot be replaced while it is written to.")

    @contextlib.contextmanager
    def product(self) -> Generator[Reprise]:
        """The product; its worker is what is measured."""
        self.step("starting")
        with running_reprise(self._site("reprise", measures_worker=True)) as reprise:
            yield reprise

    def _site(self, name: str, *, is_placed: bool = True, measures_worker: bool = False) -> Site:
        folder = self._folder / f"{next(self._numbers):03}-{name}"
        folder.mkdir()
        # nginx gives up root, and its worker must get to its files.
        folder.chmod(0o755)
        if not is_placed:
            return Site(folder)
        measured, others = self.placement.measured, self.placement.others
        if measures_worker:
            return Site(folder, server_cpus=others, writer_cpus=measured, other_cpus=others)
        return Site(folder, server_cpus=measured, writer_cpus=others, other_cpus=others)
