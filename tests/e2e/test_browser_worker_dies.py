"""The page in Chromium while the worker that runs its task is killed: told within the lease, and no text doubled."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.browser import CHROMIUM, chromium
from tests.e2e.console import Console, console
from tests.e2e.product import Product, Worker, product
from tests.e2e.reader import assert_whole
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
    pytest.mark.timeout(120),
]

LEASE_SECONDS = 3
SETTINGS = {"REPRISE_LEASE_SECONDS": str(LEASE_SECONDS)}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


async def test_with_two_workers_the_reply_begins_again_within_the_lease_and_is_shown_once(
    tmp_path: Path, browser: Browser
):
    async with product(tmp_path, settings=SETTINGS) as found:
        other = found.add_worker()
        await other.start()
        await ready(other)
        async with console(browser, found.url) as page:
            task_id = await page.start("chat")
            await page.has(20)
            killed_at = await kill_the_one_that_runs(found, task_id)
            await second_attempt(page, timeout=LEASE_SECONDS + 2)
            assert monotonic() - killed_at < LEASE_SECONDS + 2
            await shows_the_second_attempt_alone(page)


async def test_with_one_worker_the_page_says_that_it_is_missed_and_goes_on_when_one_comes_back(
    tmp_path: Path, browser: Browser
):
    async with product(tmp_path, settings=SETTINGS) as found, console(browser, found.url) as page:
        task_id = await page.start("chat")
        await page.has(20)
        await kill_the_one_that_runs(found, task_id)
        await expect(page.part("stalled")).to_contain_text("No sign of life", timeout=(LEASE_SECONDS + 2) * 1000)
        assert "attempt" not in [event.type for event in (await page.events())[1:]]
        await found.workers[0].start()
        await second_attempt(page, timeout=LEASE_SECONDS + 10)
        await shows_the_second_attempt_alone(page)
        await expect(page.part("stalled")).to_be_hidden()


async def ready(worker: Worker) -> None:
    await wait_until(lambda: "is ready for" in worker.text, description="the worker is ready", timeout=15)


async def kill_the_one_that_runs(found: Product, task_id: str) -> float:
    """Returns when."""
    await found.runner(task_id).kill()
    return monotonic()


async def second_attempt(page: Console, *, timeout: float) -> None:
    async def is_there() -> bool:
        return len(await page.data("attempt")) == 2

    await wait_until(is_there, description="a second attempt in the page", timeout=timeout)


async def shows_the_second_attempt_alone(page: Console) -> None:
    await page.ended("completed", timeout=60)
    events = await page.events()
    at = max(place for place, event in enumerate(events) if event.type == "attempt")
    assert {key: events[at].data[key] for key in ("attempt", "reason")} == {"attempt": 2, "reason": "worker_lost"}
    assert_whole(events[at:])
    tokens = [event.data["text"] for event in events[at:] if event.type == "token"]
    assert (await page.data("complete")) == [{"result": {"tokens": len(tokens)}}]
    assert await page.part("output").text_content() == "".join(tokens)
    assert re.search("Attempt 2", await page.page.inner_text("body"))
