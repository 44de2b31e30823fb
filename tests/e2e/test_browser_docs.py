"""The page at /docs in Chromium: every operation and schema of the document is there, and can be linked to."""

from __future__ import annotations

import pytest

from server.web.openapi.document import document, operations
from tests.e2e.browser import CHROMIUM, chromium_page
from tests.support.real_server import real_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine"),
]


async def test_the_page_shows_every_operation_and_schema_and_opens_what_its_address_names(redis_url: str) -> None:
    async with real_server(redis_url) as server, chromium_page() as chromium:
        said: list[str] = []
        chromium.page.on("console", lambda message: said.append(message.text))
        chromium.page.on("pageerror", lambda error: said.append(str(error)))
        await chromium.open(f"http://127.0.0.1:{server.port}/docs#create_task")
        await chromium.page.wait_for_selector("#create_task[open]")

        shown = await chromium.evaluate("[...document.querySelectorAll('details.operation')].map((each) => each.id)")
        named = [each.id for each in operations()]
        schemas = [f"schema-{name}" for name in document()["components"]["schemas"]]
        assert sorted(shown) == sorted([*named, *schemas])
        assert await chromium.evaluate("document.querySelectorAll('#index a').length") == len(named)

        await chromium.page.click("#create_task a[href='#schema-NewTask']")
        await chromium.page.wait_for_selector("#schema-NewTask[open]")
        unknown = "[...document.querySelectorAll('main a')].filter((each) => !document.querySelector(each.hash)).length"
        assert await chromium.evaluate(unknown) == 0
        assert said == []
        assert {answer.url.split("/")[2] for answer in chromium.answers} == {f"127.0.0.1:{server.port}"}
