"""Plain `EventSource`s of Chromium and Firefox, behind HAProxy, while replicas are killed: what a page without any code
of ours may rely on.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import CHROMIUM, FIREFOX, Page, chromium_page, firefox_page
from tests.e2e.haproxy import HAPROXY, Proxy, run_haproxy
from tests.e2e.product import Product, product
from tests.e2e.reader import TERMINAL, assert_whole, received
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.haproxy,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed on this machine"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
    pytest.mark.skipif(FIREFOX is None, reason="firefox-esr is not installed on this machine"),
    pytest.mark.timeout(400),
]
EVENTS = 400
INTERVAL_MS = 20
#: A page may hold six connections to one server over HTTP/1.1.
SOURCES = 3

#: Keeps what each source received and whether the browser gave it up before the terminal event.
SCRIPT = """(() => {
  window.followed = [];
  window.follow = (url, types, terminal) => {
    const found = { url, events: [], errors: 0, isOver: false, isLost: false, source: new EventSource(url) };
    const hear = (event) => {
      if (event instanceof MessageEvent) {
        found.events.push({ id: event.lastEventId, type: event.type, data: JSON.parse(event.data) });
        found.isOver ||= terminal.includes(event.type);
      } else {
        found.errors += 1;
        found.isLost ||= found.source.readyState === EventSource.CLOSED && !found.isOver;
      }
    };
    for (const type of types.concat(terminal)) found.source.addEventListener(type, hear);
    window.followed.push(found);
  };
  return true;
})()"""
STANDING = """followed.map(({ events, errors, isOver, isLost, source }) => (
  { count: events.length, errors, isOver, isLost, state: source.readyState }))"""


@pytest.mark.slow
async def test_no_event_source_is_lost_when_one_replica_and_then_all_are_killed(tmp_path: Path, enough: Path):
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(product(tmp_path, servers=3))
        proxy = await stack.enter_async_context(run_haproxy([each.address for each in found.servers], tmp_path))
        pages: list[Page] = [
            await stack.enter_async_context(chromium_page()),
            await stack.enter_async_context(firefox_page()),
        ]
        tasks = [
            await found.start_task("emit_many", url=proxy.url, count=EVENTS, interval_ms=INTERVAL_MS, until=str(enough))
            for _ in range(SOURCES)
        ]
        for page in pages:
            await follow(page, proxy, tasks)
        await have(pages, 100)
        await kill_one(found)
        await have(pages, 300)
        assert not [each for page in pages for each in await standing(page) if each["isOver"]]
        await kill_all(found, pages)
        enough.touch()
        for page in pages:
            await wait_until(lambda page=page: is_closed(page), description=f"204 in {page.name}", timeout=120)
            await check(page, found, tasks)


async def follow(page: Page, proxy: Proxy, tasks: list[str]) -> None:
    """Follow them in a document of the same origin that has no script of its own."""
    await page.open(f"{proxy.url}/console/style.css")
    await page.evaluate(SCRIPT)
    types = json.dumps(["attempt", "number", "position", "gap", "stalled"])
    for task_id in tasks:
        await page.evaluate(f"follow('/tasks/{task_id}/events', {types}, {json.dumps(sorted(TERMINAL))}) ?? true")


async def have(pages: list[Page], count: int) -> None:
    """Wait until every source has received so many events."""

    async def is_there() -> bool:
        return min([each["count"] for page in pages for each in await standing(page)]) >= count

    await wait_until(is_there, description=f"{count} events everywhere", timeout=90)


async def kill_one(found: Product) -> None:
    """Kill the replica that carries the most streams, and start it again."""
    victim = max(found.servers, key=lambda server: server.open_files)
    await victim.kill()
    await victim.start()
    await victim.ready()


async def kill_all(found: Product, pages: list[Page]) -> None:
    """Kill every replica, and start them again once nobody but the proxy has answered each source."""
    before = await errors(pages)
    await asyncio.gather(*(server.kill() for server in found.servers))

    async def were_turned_away() -> bool:
        # The one for the stream that broke off, and one for an answer without a replica.
        return all(now >= then + 2 for now, then in zip(await errors(pages), before, strict=True))

    await wait_until(were_turned_away, description="each source was turned away", timeout=90)
    await asyncio.gather(*(server.start() for server in found.servers))


async def errors(pages: list[Page]) -> list[int]:
    """How often each source has lost its connection."""
    return [each["errors"] for page in pages for each in await standing(page)]


async def is_closed(page: Page) -> bool:
    return all(each["state"] == 2 for each in await standing(page))


async def standing(page: Page) -> list[dict[str, Any]]:
    found = await page.evaluate(STANDING)
    assert not [each for each in found if each["isLost"]], f"{page.name} gave up before the end: {found}"
    return found


async def check(page: Page, found: Product, tasks: list[str]) -> None:
    """Every source received everything once and in order, had to come back, and was told 204 in the end."""
    for index, task_id in enumerate(tasks):
        emitted = found.emitted_in_all(task_id)
        assert_whole(received(await page.evaluate(f"followed[{index}].events")), emitted=emitted)
        statuses = [answer.status for answer in page.answers if task_id in answer.url]
        assert statuses[-1] == 204, (page.name, statuses)
        assert set(statuses[:-1]) == {200}, (page.name, statuses)
        assert len(statuses) >= 3, (page.name, statuses)
