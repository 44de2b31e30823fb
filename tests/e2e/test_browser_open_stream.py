"""A stream that another program writes, in a plain `EventSource`, while server and Redis are killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.browser import CHROMIUM, chromium_page
from tests.e2e.kept_events import has_received, received
from tests.e2e.product import product
from workers import open_stream

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
    pytest.mark.timeout(300),
]
#: Keeps what the page received, as docs/api.md says to follow such a stream.
SCRIPT = """(() => {
  window.events = [];
  const source = new EventSource("/streams/chat.42/events");
  const hear = (event) => event instanceof MessageEvent
    && events.push([event.type, event.data && JSON.parse(event.data)]);
  for (const type of ["n", "gap", "complete"]) source.addEventListener(type, hear);
  source.addEventListener("complete", () => source.close());
  return true;
})()"""


@pytest.mark.slow
async def test_a_page_sees_all_of_a_stream_whose_server_and_redis_are_killed_meanwhile(tmp_path: Path):
    is_over = asyncio.Event()
    written = 0
    async with product(tmp_path, workers=0) as found, chromium_page() as page:

        async def write() -> None:
            nonlocal written
            async with open_stream(found.redis.url, "chat.42") as stream:
                while not is_over.is_set():
                    await stream.emit("n", written)
                    written += 1
                    await asyncio.sleep(0.005)  # the pace of a model
                await stream.complete(written)

        await page.open(found.url)
        await page.evaluate(SCRIPT)
        async with asyncio.TaskGroup() as group:
            group.create_task(write(), name="writer")
            await has_received(page, 50, timeout=90)
            await found.servers[0].kill()
            await found.servers[0].start()
            await has_received(page, len(await received(page)) + 50, timeout=90)
            found.redis.kill()
            found.redis.start()
            await has_received(page, len(await received(page)) + 50, timeout=90)
            is_over.set()
        await has_received(page, written + 1, timeout=90)
        assert await received(page) == [
            *[["n", number] for number in range(written)],
            ["complete", {"result": written}],
        ]
