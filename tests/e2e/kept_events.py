"""What the script of a test keeps of an EventSource in a page: an array by the name of `events`."""

from __future__ import annotations

from typing import Any

from tests.e2e.browser import ChromiumPage
from tests.support.waiting import wait_until


async def received(page: ChromiumPage) -> list[Any]:
    """Everything that the page has received."""
    return await page.evaluate("events")


async def has_received(page: ChromiumPage, count: int, *, timeout: float) -> None:
    """Wait until the page has received so many events."""

    async def is_so() -> bool:
        return await page.evaluate("events.length") >= count

    await wait_until(is_so, description=f"the page has {count} events", timeout=timeout)
