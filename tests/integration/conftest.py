"""What integration tests share: several Redis at once, a hand in the log, a played worker, a server's application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from server.streams.connections import AsyncClient
from server.streams.keys import Keys
from tests.support.cluster import Cluster, clustered
from tests.support.log_hand import Hand
from tests.support.played_worker import COUNTDOWN, FREE, STEPS, PlayedWorker
from tests.support.replicated import Replicated
from tests.support.waiting import wait_until
from tests.support.web import Web, serving


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with clustered() as found:
        yield found


@pytest.fixture
def pair() -> Iterator[Replicated]:
    with Replicated() as found:
        yield found


@pytest.fixture
def hand(client: AsyncClient, keys: Keys) -> Hand:
    return Hand(client, keys)


@pytest.fixture
async def worker(client: AsyncClient, keys: Keys) -> PlayedWorker:
    found = PlayedWorker(client, keys)
    await found.offer(STEPS, FREE, COUNTDOWN)
    return found


@pytest.fixture
async def web(redis_url: str, worker: PlayedWorker) -> AsyncIterator[Web]:
    """A ready server with task types on offer. Afterwards nothing of it may be left running."""
    before = asyncio.all_tasks()
    async with serving(redis_url) as found:
        await found.until_ready()
        yield found
        await wait_until(lambda: found.hub.subscribers == 0, description="every subscription is closed")
        await wait_until(lambda: found.hub.watched == 0, description="no stream is watched")
    await nothing_left(before)


async def nothing_left(before: set[asyncio.Task[object]]) -> None:
    """Wait until there are no asyncio tasks but those of `before` and the caller."""

    def left() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() - before - {asyncio.current_task()}]

    await wait_until(lambda: not left(), description=f"no asyncio task is left of {left()}")
