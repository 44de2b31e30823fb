"""Chromium and Firefox of this machine, headless, each as a `Page` that runs scripts and keeps a log of its answers.

Chromium is driven by Playwright, Firefox by WebDriver BiDi, which it speaks itself. Both start with an empty profile,
and neither can reach anything but this machine. Knows nothing of what the pages show.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple, Protocol

from playwright.async_api import Browser, Response, async_playwright, expect
from playwright.async_api import Page as PlaywrightPage
from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = which("chromium")
FIREFOX = which("firefox-esr")

#: A container has neither user namespaces for a sandbox nor a large /dev/shm, and no name but ours may be looked up.
_CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
#: Whatever is not on this machine goes to a proxy that is not there.
_FIREFOX_PREFERENCES: dict[str, object] = {
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.proxy.no_proxies_on": "127.0.0.1",
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "security.sandbox.content.level": 0,
    "toolkit.telemetry.enabled": False,
}
_FIREFOX_ADDRESS = re.compile(rb"WebDriver BiDi listening on (ws://127\.0\.0\.1:[0-9]+)")
_START_SECONDS = 90.0
#: Of Playwright, for what a page is expected to show and for what a test does in it.
_PATIENCE_MS = 60_000.0

expect.set_options(timeout=_PATIENCE_MS)


class Answer(NamedTuple):
    """One response that a page got. A response that never ended counts when its headers came."""

    url: str
    status: int


class Page(Protocol):
    """A page of some browser."""

    name: str
    #: Oldest first.
    answers: list[Answer]

    async def open(self, url: str) -> None: ...

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, which must be JSON."""
        ...


@dataclass
class ChromiumPage:
    page: PlaywrightPage
    name: str = "Chromium"
    answers: list[Answer] = field(default_factory=list[Answer])

    def __post_init__(self) -> None:
        self.page.set_default_timeout(_PATIENCE_MS)
        self.page.on("response", self._note)

    async def open(self, url: str) -> None:
        await self.page.goto(url)

    async def evaluate(self, script: str) -> Any:
        return await self.page.evaluate(script)

    def _note(self, response: Response) -> None:
        self.answers.append(Answer(response.url, response.status))


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """A Chromium without a page."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=_CHROMIUM_OPTIONS, timeout=_START_SECONDS * 1000
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def chromium_page() -> AsyncGenerator[ChromiumPage]:
    """A page of a Chromium of its own."""
    async with chromium() as browser:
        yield ChromiumPage(await browser.new_page())


@asynccontextmanager
async def firefox_page() -> AsyncGenerator[FirefoxPage]:
    """A page of a Firefox of its own."""
    with tempfile.TemporaryDirectory(prefix="reprise-firefox-", ignore_cleanup_errors=True) as folder:
        process = await _start_firefox(Path(folder))
        try:
            address, draining = await _address(process)
            try:
                async with connect(f"{address}/session", max_size=None) as socket:
                    async with asyncio.timeout(_START_SECONDS):
                        page = await FirefoxPage.of(socket)
                    yield page
                    await page.close()
            finally:
                draining.cancel()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it has processes of its own
            await process.wait()


class FirefoxPage:
    """The one tab, over a WebDriver BiDi session (w3c.github.io/webdriver-bidi)."""

    name = "Firefox"

    def __init__(self, socket: ClientConnection) -> None:
        self.answers: list[Answer] = []
        self._socket = socket
        self._context = ""
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._receiving = asyncio.create_task(self._receive(), name="receive from Firefox")

    @classmethod
    async def of(cls, socket: ClientConnection) -> FirefoxPage:
        page = cls(socket)
        await page._send("session.new", capabilities={})
        tree = await page._send("browsingContext.getTree")
        page._context = tree["contexts"][0]["context"]
        await page._send("session.subscribe", events=["network.responseStarted"])
        return page

    async def open(self, url: str) -> None:
        await self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, script: str) -> Any:
        # Values of BiDi have types of their own; JSON has those the test wants.
        found = await self._send(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({script})))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    async def close(self) -> None:
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)

    async def _send(self, method: str, **parameters: Any) -> Any:
        number = len(self._waiting)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(_START_SECONDS):
            return await self._waiting[number]

    async def _receive(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if message["type"] == "event":
                self._note(message["params"])
            elif message["type"] == "success":
                self._waiting[message["id"]].set_result(message["result"])
            else:
                self._waiting[message["id"]].set_exception(AssertionError(text))

    def _note(self, parameters: dict[str, Any]) -> None:
        response = parameters["response"]
        self.answers.append(Answer(response["url"], response["status"]))


async def _start_firefox(folder: Path) -> asyncio.subprocess.Process:
    profile = folder / "profile"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _FIREFOX_PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    assert FIREFOX, "firefox-esr is not on PATH."
    return await asyncio.create_subprocess_exec(
        *(FIREFOX, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0", "about:blank"),
        env={**os.environ, "HOME": str(folder), "MOZ_CRASHREPORTER_DISABLE": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def _address(process: asyncio.subprocess.Process) -> tuple[str, asyncio.Task[None]]:
    """Where it listens, and what reads the rest that it says, so that it never waits for a full pipe."""
    assert process.stderr
    said = b""
    async with asyncio.timeout(_START_SECONDS):
        while not (found := _FIREFOX_ADDRESS.search(said)):
            line = await process.stderr.readline()
            assert line, f"Firefox ended: {said.decode(errors='replace')}"
            said += line
    return found[1].decode(), asyncio.create_task(_drain(process.stderr), name="what Firefox says")


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass
