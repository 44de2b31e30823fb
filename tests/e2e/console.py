"""The page at `/` as a person uses it in Chromium: fill in the form, watch, reload, cancel.

What the page received is read from `window.repriseEvents`, which holds events as they arrived, repeats included.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator
from playwright.async_api import Page as PlaywrightPage

from tests.e2e.browser import ChromiumPage
from tests.e2e.reader import UNNUMBERED, Received, received
from tests.support.waiting import wait_until


class Console:
    """One tab that shows the page."""

    def __init__(self, page: PlaywrightPage, url: str) -> None:
        self.page = page
        self.url = url
        #: Exceptions that the page did not catch.
        self.failures: list[str] = []
        self._chromium = ChromiumPage(page)
        page.on("pageerror", lambda error: self.failures.append(str(error)))

    async def open(self) -> None:
        await self.page.goto(f"{self.url}/")

    def part(self, test_id: str) -> Locator:
        return self.page.get_by_test_id(test_id)

    async def fill_in(self, type: str, **fields: Any) -> None:
        """Choose a task type, once a worker offers it, and fill in its form."""
        await self.part("type-select").select_option(type)
        for name, value in fields.items():
            await self.part(f"field-{name}").fill(str(value))

    async def start(self, type: str, **fields: Any) -> str:
        """Start a task; its id."""
        await self.fill_in(type, **fields)
        await self.part("start").click()
        return await wait_until(self.task_id, description=f"a task of type {type} is open in the page", timeout=60)

    async def task_id(self) -> str:
        """Id of the followed task; empty if there is none."""
        return await self.page.evaluate("new URLSearchParams(location.hash.slice(1)).get('task') || ''")

    async def events(self) -> list[Received]:
        """What the browser handed to the page since it began to follow the task."""
        return received(await self.page.evaluate("window.repriseEvents ?? []"))

    async def data(self, type: str) -> list[Any]:
        return [event.data for event in await self.events() if event.type == type]

    async def has(self, count: int, *, timeout: float = 60) -> None:
        """Wait for so many events of the log."""

        async def is_there() -> bool:
            return len([event for event in await self.events() if event.type not in UNNUMBERED]) >= count

        await wait_until(is_there, description=f"{count} events in the page", timeout=timeout)

    async def ended(self, status: str, *, timeout: float = 90) -> None:
        """Wait for the task's end, and until the browser has been told that there is nothing more to come."""

        async def is_closed() -> bool:
            return await self.part("connection-state").get_attribute("data-closed") == "true"

        await wait_until(is_closed, description="the page holds no stream any more", timeout=timeout)
        assert await self.part("status").text_content() == status
        assert await self.part("connection-state").text_content() == "Finished"

    async def statuses(self) -> list[int]:
        """Status of each answer to the followed task's EventSource."""
        path = f"/tasks/{await self.task_id()}/events"
        return [answer.status for answer in self._chromium.answers if path in answer.url]


@asynccontextmanager
async def console(browser: Browser, url: str) -> AsyncGenerator[Console]:
    """The page in a profile of its own. No exception may have gone uncaught in it."""
    async with await browser.new_context() as context:
        found = Console(await context.new_page(), url)
        await found.open()
        yield found
        assert found.failures == []
