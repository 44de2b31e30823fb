"""What it takes to find the place where a reader begins that asks for what has happened since a moment."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.load.transcript import Broken
from benchmarks.peers.redis import running_redis
from server.streams.calls import Lifetimes
from server.streams.connections import connect, execute
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.seek import since

_EVENTS: Final = 1_000_000
_STEP: Final = 50_000
_GENERATION: Final = 1_795_343_970_123
#: One generation of a shared stream, an event each millisecond.
_FILL: Final = """
for i = 0, tonumber(ARGV[1]) - 1 do
  redis.call('XADD', KEYS[1], ARGV[2] .. '-' .. string.format('%.0f', ARGV[3] + i), 'e', 'token', 'd', '{}', 't',
    string.format('%.0f', ARGV[2] + ARGV[3] + i))
end
"""


def reads() -> float:
    """Reads of single events that Redis gets for one `since` in a stream of a million."""
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as folder, running_redis(Path(folder)) as redis:
        return asyncio.run(_reads(redis.url))


async def _reads(url: str) -> float:
    client, keys = connect(url, name="benchmark"), Keys()
    for first in range(0, _EVENTS, _STEP):
        await execute(client, "EVAL", _FILL, 1, keys.log("million"), _STEP, _GENERATION, first)
    log = Log(client, keys, lifetimes=Lifetimes(), max_events=0)
    found = await log.find("million", since(_GENERATION + 777_777))
    stats: dict[str, Any] = await execute(client, "INFO", "commandstats")
    await client.aclose()
    if found != EventId(_GENERATION, 777_776):
        raise Broken(f"The place found is {found}: the figure means nothing.")
    return sum(stats[f"cmdstat_{name}"]["calls"] for name in ("xrange", "xrevrange"))
