"""The page in Chromium while a task pauses after a failed attempt, and when one that has ended is run again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.browser import CHROMIUM, chromium
from tests.e2e.console import console
from tests.e2e.product import product
from tests.e2e.reader import assert_whole
from tests.support.http import http_client

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
    pytest.mark.timeout(300),
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


async def test_the_page_says_why_a_task_pauses_and_until_when(tmp_path: Path, browser: Browser):
    async with product(tmp_path, modules=("tests.tasks.failing",)) as found, console(browser, found.url) as page:
        await page.start("fail_slowly")
        await expect(page.part("stalled")).to_contain_text(
            re.compile(r"It is tried again at .*\d\d:\d\d.*\. The last attempt failed: LookupError: no$"),
        )
        await expect(page.part("status")).to_have_text("pending")
        await page.page.reload()
        await expect(page.part("stalled")).to_contain_text("LookupError: no")
        await expect(page.part("status")).to_have_text("pending")
        await page.part("cancel").click()
        await page.ended("cancelled")
        await expect(page.part("stalled")).to_be_hidden()


async def test_a_task_that_is_run_again_after_its_end_is_followed_again(tmp_path: Path, browser: Browser):
    async with product(tmp_path) as found, console(browser, found.url) as page:
        task_id = await page.start("countdown", seconds=1)
        await page.ended("completed")
        async with (
            http_client(found.url, timeout=30) as http,
            http.stream("POST", f"/tasks/{task_id}/execute", json={"rerun_of": 1}) as again,
        ):
            assert again.status_code == 200
            await expect(page.part("attempt")).to_have_text("2")
        await page.ended("completed")
        assert_whole(await page.events(), emitted=1)
