"""Every replica is restarted in turn while tasks run and readers follow: nobody loses, repeats or is refused anything.

A small crowd in the suite. REPRISE_ROLLING_READERS=500 is the whole one: 50 tasks, and the drain of the default
settings. Its figures are printed (`-s`).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.e2e.crowd import Crowd, following_crowd, histogram
from tests.e2e.haproxy import HAPROXY, Proxy, run_haproxy
from tests.e2e.product import Product, product
from tests.e2e.reader import assert_whole
from tests.support.http import http_client
from tests.support.waiting import wait_until

READERS = int(os.environ.get("REPRISE_ROLLING_READERS", "60"))
IS_WHOLE = READERS >= 500
TASKS = READERS // 10
DRAIN_SECONDS = 10.0 if IS_WHOLE else 3.0
SETTINGS = {"REPRISE_DRAIN_SECONDS": str(DRAIN_SECONDS), "REPRISE_CONCURRENCY": str(TASKS)}

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed on this machine"),
    pytest.mark.timeout(900),
    pytest.mark.slow,
]


async def test_a_rolling_restart_of_all_replicas_loses_repeats_and_refuses_nothing(tmp_path: Path, enough: Path):
    async with (
        product(tmp_path, servers=3, settings=SETTINGS) as found,
        run_haproxy([server.address for server in found.servers], tmp_path) as proxy,
    ):
        tasks = [
            await found.start_task("emit_many", url=proxy.url, count=100, interval_ms=100, until=str(enough))
            for _ in range(TASKS)
        ]
        paths = [f"/tasks/{tasks[number % TASKS]}/events" for number in range(READERS)]
        async with following_crowd(proxy.port, paths) as crowd, asking(proxy) as statuses:
            await everybody_reads(crowd)
            told_at = await restart_each(found, proxy)
            all_told_at = asyncio.get_running_loop().time()
            enough.touch()
            await crowd.until_ended(timeout=180)
        emitted = [found.emitted_in_all(task_id) for task_id in tasks]
    show(crowd, told_at, statuses)
    for number, source in enumerate(crowd.sources):
        assert_whole(source.events, emitted=emitted[number % TASKS])
        assert set(source.statuses[:-1]) == {200}
        assert source.statuses[-1] == 204
        assert all(answer.is_whole for answer in source.answers), "a body broke off"
    assert set(statuses) == {200, 201}
    for at, next_at in pairwise([*told_at, all_told_at]):
        # Tasks go on all the while, so whatever stream ends belongs to this stop.
        ended = [answer for answer in crowd.answers if answer.event_at and at <= answer.ended_at < next_at]
        assert len(ended) >= READERS // 6, "nobody was on the stopped replica"
        first_at = min(answer.ended_at for answer in ended)
        stayed = [answer for answer in ended if answer.last_event_at > first_at]
        assert len(stayed) > len(ended) / 2, "the readers were not sent away bit by bit, while others got events"
    for server in found.servers:
        assert '"level": "warning"' not in server.text
        assert '"level": "error"' not in server.text


async def everybody_reads(crowd: Crowd) -> None:
    await wait_until(
        lambda: all(len(source.events) > 5 for source in crowd.sources), description="everybody reads", timeout=90
    )


async def restart_each(found: Product, proxy: Proxy) -> list[float]:
    """One replica after the other, as soon as the balancer uses the one before; when each was told to stop."""
    told_at: list[float] = []
    for number, server in enumerate(found.servers, start=1):
        told_at.append(asyncio.get_running_loop().time())
        assert await server.stop() == 0
        await server.start()
        await server.ready()
        await proxy.until_used(f"replica{number}")
    return told_at


@asynccontextmanager
async def asking(proxy: Proxy) -> AsyncGenerator[list[int]]:
    """Somebody who starts tasks and looks them up all the while; the statuses of the answers."""
    statuses: list[int] = []

    async def keep_asking(http: httpx.AsyncClient) -> None:
        while True:
            body = {"type": "countdown", "input": {"seconds": 1}, "execute": False}
            key = {"idempotency-key": f"post-{len(statuses)}"}
            created = await http.post("/tasks", json=body, headers=key)
            looked_up = await http.get(created.headers["location"])
            statuses.extend((created.status_code, looked_up.status_code))
            await asyncio.sleep(0.01)

    async with http_client(proxy.url, timeout=60) as http:
        task = asyncio.create_task(keep_asking(http), name="keep asking")
        try:
            yield statuses
            assert not task.done(), "the one who asks has failed"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def show(crowd: Crowd, told_at: list[float], statuses: list[int]) -> None:
    """The figures, as text."""
    answers = crowd.answers
    step, until = (1.0, DRAIN_SECONDS + 4) if IS_WHOLE else (0.5, DRAIN_SECONDS + 3)
    pauses = sorted(crowd.pauses())
    by_status = dict(Counter(each.status for each in answers))
    broken = sum(not each.is_whole for each in answers)
    lines = [
        f"\n{READERS} readers of {TASKS} tasks, 3 replicas restarted in turn, drain {DRAIN_SECONDS:g} s",
        f"answers to readers by status: {by_status}, to others: {dict(Counter(statuses))}; broken off: {broken}",
        f"from the end of a stream to its reader's next event: median {median(pauses):.2f} s, most {pauses[-1]:.2f} s",
    ]
    for number, (at, next_at) in enumerate(zip(told_at, [*told_at[1:], told_at[-1] + until], strict=True), start=1):
        ended = [each.ended_at - at for each in answers if at <= each.ended_at < min(next_at, at + until)]
        asked = [each.asked_at - at for each in answers if at <= each.asked_at < min(next_at, at + until)]
        lines.append(f"replica {number}, from SIGTERM on: streams ended and readers that came (back)")
        rows = zip(histogram(ended, step=step, until=until), histogram(asked, step=step, until=until), strict=True)
        for row, (gone, back) in enumerate(rows):
            lines.append(f"  {row * step:4.1f} s  {gone:4} {'-' * gone:<60.60} {back:4} {'+' * back}")
    print("\n".join(lines))  # noqa: T201 - the figures are what the long one is run for
