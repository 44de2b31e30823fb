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
    _, file, command, *options = sys.argv
    _count_into(Path(file))
    # After the loop's factory was replaced. `reprise worker` would put another program in the place of this one.
    if command == "worker":
        from workers.__main__ import main as run_worker  # noqa: PLC0415

        run_worker(options)
    else:
        from server.__main__ import main as run_server  # noqa: PLC0415

        run_server([command, *options])


if __name__ == "__main__":
    main()
