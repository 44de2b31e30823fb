"""A task store, the queue behind it and the reaper over both, as a server has them."""

from __future__ import annotations

from collections.abc import Callable

from server.streams.announcements import Announcer
from server.streams.connections import AsyncClient, execute
from server.streams.dead_letters import DeadLetters
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.presence import Presence
from server.streams.reaper import Reaper
from server.streams.tasks import TaskStore
from tests.support.log_hand import LIFETIMES


def store_over(client: AsyncClient, keys: Keys, *, may_judge_expired: Callable[[], bool] = lambda: True) -> TaskStore:
    announcer = Announcer(Log(client, keys, lifetimes=LIFETIMES, max_events=1000))
    return TaskStore(client, keys, announcer, lifetimes=LIFETIMES, may_judge_expired=may_judge_expired)


def reaper_over(client: AsyncClient, keys: Keys, *, may_judge: bool = True, interval_seconds: float = 60) -> Reaper:
    store = store_over(client, keys)
    dead_letters = DeadLetters(client, keys, store, lifetimes=LIFETIMES)
    return Reaper(
        client,
        keys,
        store,
        dead_letters,
        Presence(client, keys, store, grace_seconds=0.2),
        interval_seconds=interval_seconds,
        may_judge_expired=lambda: may_judge,
    )


async def queued(client: AsyncClient, keys: Keys, queue: str = "default") -> list[str]:
    """Task ids in a queue, those of each type with the oldest entry first, whoever holds them."""
    names: list[bytes] = await execute(client, "KEYS", keys.ready(queue, "*"))
    rows = [row for name in sorted(names) for row in await execute(client, "XRANGE", name, "-", "+")]
    return [fields[b"task"].decode() for _, fields in rows]
