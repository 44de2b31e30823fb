"""Starts a command of the product and notes, once a second, how many asyncio tasks its event loop has.

`python -m benchmarks.soak.watched FILE server|worker …`. The product has no such figure to show, and needs none: only
here its event loop is made to count.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

_SECONDS = 1.0


def _count_into(file: Path) -> None:
    make = uvloop.new_event_loop

    def new_event_loop() -> uvloop.Loop:
        loop = make()

        def note() -> None:
            text = str(len(asyncio.all_tasks(loop)))
            new = file.with_suffix(".new")
            new.write_text(text)
            new.replace(file)
            loop.call_later(_SECONDS, note)

        loop.call_soon(note)
        return loop

    uvloop.new_event_loop = new_event_loop


def main() -> None:
    _count_into(Path(sys.argv[1]))
    from server.__main__ import main as run  # noqa: PLC0415 (after the loop's factory was replaced)

    run(sys.argv[2:])


if __name__ == "__main__":
    main()
