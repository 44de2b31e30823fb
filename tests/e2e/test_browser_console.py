"""`reprise dev` and its page in Chromium: what a newcomer sees, and sees go on when something is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.e2e.browser import CHROMIUM, chromium
from tests.e2e.console import Console, console
from tests.e2e.dev_run import DevRun, dev_run
from tests.e2e.reader import assert_whole
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(400),
]
#: Of the countdown that others are killed under.
SECONDS = 16


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DevRun]:
    async with dev_run(tmp_path_factory.mktemp("dev")) as found:
        await found.ready()
        yield found
        # The worker tells the exception of a task that fails.
        assert [line for line in found.lines if "Traceback" in line and not line.startswith("worker")] == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["server", "valkey"])
async def test_every_tick_and_token_arrives_once_although_a_process_is_killed(
    victim: str, run: DevRun, browser: Browser
):
    async with console(browser, run.url) as countdown, console(browser, run.url) as chat:
        # The longer one first: both have to be under way when something is killed.
        await countdown.start("countdown", seconds=SECONDS)
        await chat.start("chat")
        await asyncio.gather(countdown.has(3), chat.has(10))
        seen = [*await countdown.events(), *await chat.events()]
        await kill(run, victim)
        await countdown.ended("completed")
        await chat.ended("completed")

        assert "complete" not in [event.type for event in seen]
        assert_whole(await countdown.events(), emitted=SECONDS)
        assert [tick["remaining"] for tick in await countdown.data("tick")] == list(range(SECONDS, 0, -1))
        assert_whole(await chat.events())
        tokens = [token["text"] for token in await chat.data("token")]
        assert (await chat.data("complete")) == [{"result": {"tokens": len(tokens)}}]
        assert await chat.part("output").text_content() == "".join(tokens)
        for page in (countdown, chat):
            statuses = await page.statuses()
            assert statuses[-1] == 204
            assert set(statuses[:-1]) == {200}
            assert len(statuses) >= (3 if victim == "server" else 2)


async def kill(run: DevRun, name: str) -> None:
    """Kill it as `kill -9` does, and wait until another has taken its place."""
    before = run.pids(name)
    os.kill(before[-1], signal.SIGKILL)
    await wait_until(lambda: len(run.pids(name)) > len(before), description=f"another {name}", timeout=60)


async def has_asked(page: Console, *, times: int) -> bool:
    return len(await page.statuses()) >= times


async def test_a_reloaded_page_shows_everything_and_goes_on(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        task_id = await page.start("countdown", seconds=4)
        await page.has(3)
        await page.page.reload()
        await page.ended("completed")
        assert await page.task_id() == task_id
        assert_whole(await page.events(), emitted=4)
        assert await page.part("ticks").locator("li").all_text_contents() == ["4", "3", "2", "1"]
        assert (await page.statuses())[-1] == 204


async def test_a_dropped_connection_is_taken_up_where_it_was(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        await page.start("countdown", seconds=60)
        await page.has(3)
        await page.part("reconnect").click()
        await wait_until(lambda: has_asked(page, times=2), description="the page has asked again")
        await page.has(5)
        await page.part("cancel").click()
        await page.ended("cancelled")
        assert_whole(await page.events(), ending="cancelled")
        assert (await page.statuses()) == [200, 200, 204]


async def test_progress_is_shown_up_to_the_end(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        await page.start("process")
        await page.ended("completed")
        assert_whole(await page.events(), emitted=6)
        assert await page.part("progress").get_attribute("value") == "100"


async def test_cancel_ends_a_running_task(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        await page.start("countdown", seconds=60)
        await page.has(2)
        await page.part("cancel").click()
        await expect(page.part("status")).to_have_text("cancelled")
        await page.ended("cancelled")
        assert_whole(await page.events(), ending="cancelled")
        assert await page.part("cancel").is_hidden()


async def test_a_failing_task_is_shown_with_its_reason(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        await page.start("flaky", fail_at=2)
        await page.ended("failed")
        assert_whole(await page.events(), emitted=2, ending="error")
        assert "Step 2 failed" in await page.part("error").inner_text()
        assert (await page.statuses())[-1] == 204


async def test_an_input_that_breaks_the_schema_is_told_beside_its_field(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        await page.fill_in("countdown", seconds=61)
        await page.part("start").click()
        await expect(page.part("problem-seconds")).to_contain_text("60")
        assert await page.part("field-seconds").get_attribute("aria-invalid") == "true"
        assert await page.task_id() == ""
        await page.fill_in("countdown", seconds=1)
        await page.part("start").click()
        await page.ended("completed")
        assert_whole(await page.events(), emitted=1)


async def test_an_emptied_field_shows_the_default_that_it_runs_with(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        await page.fill_in("countdown")
        field = page.part("field-seconds")
        default = await field.input_value()
        await field.fill("")
        await page.part("start").click()
        await expect(field).to_have_value(default)
        await expect(page.part("input")).to_contain_text(f'"seconds":{default}')
        await page.part("cancel").click()
        await page.ended("cancelled")


async def test_a_task_that_begins_later_is_shown_to_wait_until_then(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        created = await page.page.request.post(f"{run.url}/tasks", data={"type": "process", "delay": 3600})
        task = await created.json()
        await page.page.goto(f"{run.url}/#task={task['id']}")
        await expect(page.part("stalled")).to_contain_text("Waits until")
        await page.part("cancel").click()
        await page.ended("cancelled")
        await expect(page.part("stalled")).to_be_hidden()


async def test_a_task_in_a_queue_without_workers_is_shown_to_wait_for_one(run: DevRun, browser: Browser):
    async with console(browser, run.url) as page:
        created = await page.page.request.post(f"{run.url}/tasks", data={"type": "process", "queue": "nobody"})
        await page.page.goto(f"{run.url}/#task={(await created.json())['id']}")
        await expect(page.part("stalled")).to_contain_text("queue “nobody”")
        await page.part("cancel").click()
        await page.ended("cancelled")
