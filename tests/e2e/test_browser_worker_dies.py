"""The page in Chromium while the worker that runs its task is killed: told after its lease, and no text doubled."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.browser import CHROMIUM, chromium
from tests.e2e.console import Console, console
from tests.e2e.product import START_SECONDS, Product, Worker, log_key, product, record_key
from tests.e2e.reader import assert_whole
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
    pytest.mark.timeout(400),
]

SETTINGS = {"REPRISE_LEASE_SECONDS": "4"}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


async def test_with_two_workers_the_reply_begins_again_when_the_lease_has_run_out_and_is_shown_once(
    tmp_path: Path, browser: Browser
):
    async with product(tmp_path, settings=SETTINGS) as found:
        other = found.add_worker()
        await other.start()
        await ready(other)
        async with console(browser, found.url) as page:
            task_id = await page.start("chat")
            await page.has(10)
            await found.runner(task_id).kill()
            lease_until = int(cast("bytes", found.redis.command("HGET", record_key(task_id), "lease_until")))
            await second_attempt(page)
            late = second_began_at(found, task_id) - lease_until
            print(f"\nAnother worker began {late} ms after the lease of the dead one")  # noqa: T201 - by hand
            assert late >= 0
            await shows_the_second_attempt_alone(page)


async def test_with_one_worker_the_page_says_that_it_is_missed_and_goes_on_when_one_comes_back(
    tmp_path: Path, browser: Browser
):
    async with product(tmp_path, settings=SETTINGS) as found, console(browser, found.url) as page:
        task_id = await page.start("chat")
        await page.has(10)
        await found.runner(task_id).kill()
        await expect(page.part("stalled")).to_contain_text("No sign of life")
        assert "attempt" not in [event.type for event in (await page.events())[1:]]
        await found.workers[0].start()
        await second_attempt(page)
        await shows_the_second_attempt_alone(page)
        await expect(page.part("stalled")).to_be_hidden()


async def ready(worker: Worker) -> None:
    await wait_until(lambda: "is ready for" in worker.text, description="the worker is ready", timeout=START_SECONDS)


def second_began_at(found: Product, task_id: str) -> int:
    """When the second attempt began, by the clock of Redis in ms."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found.redis.command("XRANGE", log_key(task_id), "-", "+"))
    return [int(fields[b"t"]) for _, fields in entries if fields[b"e"] == b"attempt"][1]


async def second_attempt(page: Console) -> None:
    async def is_there() -> bool:
        return len(await page.data("attempt")) == 2

    await wait_until(is_there, description="a second attempt in the page", timeout=90)


async def shows_the_second_attempt_alone(page: Console) -> None:
    await page.ended("completed")
    events = await page.events()
    at = max(place for place, event in enumerate(events) if event.type == "attempt")
    assert {key: events[at].data[key] for key in ("attempt", "reason")} == {"attempt": 2, "reason": "worker_lost"}
    assert_whole(events[at:])
    tokens = [event.data["text"] for event in events[at:] if event.type == "token"]
    assert (await page.data("complete")) == [{"result": {"tokens": len(tokens)}}]
    assert await page.part("output").text_content() == "".join(tokens)
    assert re.search("Attempt 2", await page.page.inner_text("body"))
