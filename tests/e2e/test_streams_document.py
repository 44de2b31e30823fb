"""docs/streams.md keeps its word: its very commands are run, and show the events that its table names.

Only their times are longer: what a person sees on an idle machine, a busy one shows too.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from shutil import which
from typing import NamedTuple

import pytest
import pytest_asyncio

from tests.e2e.browser import CHROMIUM, chromium
from tests.e2e.product import ROOT, Product, product
from tests.support.waiting import wait_until

DOCUMENT = ROOT / "docs" / "streams.md"
#: By what is written there. Each is found, or the table tells other times.
LONGER = {
    "-m 9 ": "-m 60 ",  # ended once everything was shown
    "sleep 2; curl -s -o": "sleep 5; curl -s -o",  # the countdown takes ten
    '"seconds": 5}}\'); LAST=$(curl -sN -m 3': '"seconds": 15}}\'); LAST=$(curl -sN -m 6',
    '"seconds": 30}}': '"seconds": 60}}',
    'curl -sN -m 6 "$1"': 'curl -sN -m 15 "$1"',
    "sleep 4; files; wait; files;": "until (( $(files) >= before + 45 )); do sleep 0.1; done; files; wait; files;",
    "crowd() { ": "crowd() { local before=$(files); ",
}

pytestmark = [
    pytest.mark.skipif(which("curl") is None, reason="curl is not installed on this machine"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]


class Row(NamedTuple):
    stream: str
    command: str
    shows: str

    @property
    def events(self) -> list[str]:
        return re.findall(r"`([a-z_]+)`", self.shows)


def rows() -> list[Row]:
    """The table. A pipe inside a cell is written with a backslash."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines[1:]]
    return [Row(name, command.strip("`").replace(r"\|", "|"), shows) for name, command, shows in cells]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    async with product(tmp_path_factory.mktemp("document")) as found:
        yield found


def with_longer_times(text: str) -> str:
    for told, longer in LONGER.items():
        text = text.replace(told, longer)
    return text


def is_shown(row: Row, output: bytes) -> bool:
    return all(re.search(rf"^event: {each}$".encode(), output, re.MULTILINE) for each in row.events)


async def shell(found: Product, row: Row) -> str:
    """Run a command of the document after its preparations; what it prints.

    One that would be ended by its time is ended once it has shown what it shows.
    """
    server = found.servers[0]
    (preparations,) = blocks("sh")
    text = re.sub(r"^URL=.*$", f"URL={server.url}", preparations, flags=re.MULTILINE)
    text = re.sub(r"^SERVER=.*$", f"SERVER={server.pid}", text, flags=re.MULTILINE)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", with_longer_times(f"{text}\n{row.command}")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout
    out = b""
    async with asyncio.timeout(150):
        while part := await process.stdout.read(65_536):
            out += part
            if "-m 9 " in row.command and is_shown(row, out):
                os.killpg(process.pid, signal.SIGTERM)
                break
        await process.communicate()
    return out.decode()


async def test_the_times_that_are_made_longer_are_those_of_the_document():
    text = "\n".join([*blocks("sh"), *(row.command for row in rows())])
    assert [told for told in LONGER if told not in text] == []


async def test_the_table_has_a_row_for_every_stream_there_is():
    addresses = [
        "/stream/system",
        "/tasks/stream",
        "/execute",
        "/stream/countdown/",
        "/events",
        "/events?stream=",
        "/cancel",
    ]
    assert [each for each in addresses if not any(each in row.command for row in rows())] == []


@pytest.mark.slow
async def test_every_command_shows_what_the_table_says(running: Product):
    following = [row for row in rows() if "crowd" not in row.command]
    assert len(following) >= 8
    outputs = await asyncio.gather(*(shell(running, row) for row in following))
    for row, output in zip(following, outputs, strict=True):
        seen = list(dict.fromkeys(re.findall(r"^event: (\S+)$", output, re.MULTILINE)))
        assert set(row.events) <= set(seen), (row.stream, output[-2000:])
        if "attempt" in row.events:
            assert [each for each in seen if each in row.events] == row.events, row.stream
        if row.stream.startswith("come back"):
            assert "attempt" not in seen


async def test_nothing_is_left_of_readers_that_are_gone(running: Product):
    (row,) = [row for row in rows() if "crowd" in row.command]
    output = await shell(running, row)
    crowded, empty = (int(number) for number in re.findall(r"^([0-9]+)$", output, re.MULTILINE))
    assert crowded - empty >= 40
    assert row.events == ["running"]
    assert '"status":"running"' in output


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed on this machine")
@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, ["tick 3", "tick 2", "tick 1", "complete"]),
        (1, ["attempt", *["progress"] * 6, "complete"]),
        (2, ["complete to be continued or not"]),
    ],
    ids=["EventSource", "fetch", "several streams"],
)
async def test_a_script_of_the_document_shows_the_stream(index: int, expected: Sequence[str], running: Product):
    script = blocks("js")[index]
    logged: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.on("console", lambda message: logged.append(message.text))
        await page.goto(running.url)
        await page.evaluate(f"(async () => {{ {script} }})()")
        await wait_until(lambda: "complete" in (logged or [""])[-1], description="its end is logged", timeout=60)
    types = [re.search(r"event: (\S+)", text) for text in logged]
    found = [match[1] if match else text for match, text in zip(types, logged, strict=True)]
    # `position` comes first where the worker has not begun yet.
    assert [each for each in found if not each.startswith(("retry", "position"))] == expected
