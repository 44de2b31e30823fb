"""Starts a command of the product and notes, once a second, how many asyncio tasks its event loop has, and how many
connections its pools hold.

`python -m benchmarks.soak.watched FILE server|worker …`. The product has no such figures to show, and needs none: only
here its event loop is made to count. FILE is JSON of `Counted`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import weakref
from pathlib import Path
from typing import Any, TypedDict

import redis.asyncio
import uvloop

_SECONDS = 1.0


class Counted(TypedDict):
    """What a program knows of itself."""

    asyncio_tasks: int
    #: A pool keeps each connection it ever needed at the same time, up to its limit: a busy moment adds some for good.
    pooled_connections: int


def _count_into(file: Path) -> None:
    make = uvloop.new_event_loop
    pools = _known_pools()

    def new_event_loop() -> uvloop.Loop:
        loop = make()

        def note() -> None:
            counted = Counted(
                asyncio_tasks=len(asyncio.all_tasks(loop)), pooled_connections=sum(map(_connections, pools))
            )
            new = file.with_suffix(".new")
            new.write_text(json.dumps(counted))
            new.replace(file)
            loop.call_later(_SECONDS, note)

        loop.call_soon(note)
        return loop

    uvloop.new_event_loop = new_event_loop


def _known_pools() -> weakref.WeakSet[redis.asyncio.ConnectionPool]:
    """Every pool made from now on, as long as it lives."""
    pools = weakref.WeakSet[redis.asyncio.ConnectionPool]()
    pool_class: Any = redis.asyncio.ConnectionPool
    make = pool_class.__init__

    def remember(pool: redis.asyncio.ConnectionPool, *given: Any, **options: Any) -> None:
        make(pool, *given, **options)
        pools.add(pool)

    pool_class.__init__ = remember
    return pools


def _connections(pool: Any) -> int:
    """How many a pool has, idle ones included. Redis has no figure for it, so it is read where the pool keeps them."""
    return sum(each.is_connected for each in (*pool._available_connections, *pool._in_use_connections))  # noqa: SLF001


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
