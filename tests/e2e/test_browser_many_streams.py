"""Four streams in one plain `EventSource` of Chromium, while the server is killed and started again twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import CHROMIUM, chromium_page
from tests.e2e.kept_events import has_received, received
from tests.e2e.product import product
from tests.support.composites import own_of, positions_in
from workers import open_stream

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
    pytest.mark.timeout(120),
]
STREAMS = ("chat.42", "prices", "log.a", "log.b")
#: Keeps what the page received, as docs/api.md says to follow several streams.
SCRIPT = """(() => {
  window.events = [];
  const names = %s;
  const source = new EventSource("/events?" + names.map((name) => "stream=" + name).join("&"));
  const hear = (event) => event instanceof MessageEvent
    && events.push([event.type, event.lastEventId, event.data && JSON.parse(event.data)]);
  for (const type of ["n", "gap"]) source.addEventListener(type, hear);
  const open = new Set(names);
  source.addEventListener("complete", (event) => {
    hear(event);
    open.delete(event.lastEventId.split(":")[0]);
    if (!open.size) source.close();
  });
  return true;
})()"""


@pytest.mark.slow
async def test_a_page_sees_all_of_four_streams_whose_server_is_killed_twice(tmp_path: Path):
    is_over = asyncio.Event()
    written: dict[str, int] = dict.fromkeys(STREAMS, 0)
    async with product(tmp_path, workers=0) as found, chromium_page() as page:

        async def write(name: str) -> None:
            async with open_stream(found.redis.url, name) as stream:
                while not is_over.is_set():
                    await stream.emit("n", written[name])
                    written[name] += 1
                    await asyncio.sleep(0.02)  # the pace of a model
                await stream.complete(written[name])

        await page.open(found.url)
        await page.evaluate(SCRIPT % list(STREAMS))
        async with asyncio.TaskGroup() as group:
            for name in STREAMS:
                group.create_task(write(name), name=f"writer of {name}")
            await has_received(page, 100, timeout=40)
            for _ in range(2):
                await found.servers[0].kill()
                await found.servers[0].start()
                await has_received(page, await page.evaluate("events.length") + 100, timeout=40)
            is_over.set()
        await has_received(page, sum(written.values()) + len(STREAMS), timeout=40)
        events = await received(page)
    got: dict[str, list[Any]] = defaultdict(list)
    for event_type, event_id, data in events:
        assert set(positions_in(event_id)) == set(STREAMS)
        got[own_of(event_id)[0]].append([event_type, data])
    assert got == {
        name: [*[["n", number] for number in range(count)], ["complete", {"result": count}]]
        for name, count in written.items()
    }
