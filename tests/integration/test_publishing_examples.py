"""docs/publishing.md keeps its word: its examples are run as they stand, and readers see all that they write."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from time import time
from types import ModuleType

import pytest
from httpx_sse import ServerSentEvent

from server.streams.connections import AsyncClient, execute
from server.streams.errors import LogUnavailable
from server.streams.event import Draft
from server.streams.keys import Keys
from tests.support.event_reader import EventReader, data_of, reading, types_of
from tests.support.log_hand import Hand
from tests.support.real_server import real_server
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.web import Web, serving

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
CELERY = Path(sys.executable).parent / "celery"
#: To start Celery on a busy machine takes its time.
_START_SECONDS = 90.0


async def run_program(*command: str) -> str:
    """Run an example to its end, which must be a good one; what it said."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


def tokens_of(events: list[ServerSentEvent]) -> str:
    return "".join(data_of(event)["text"] for event in events if event.event == "token")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_every_example_as_it_stands() -> None:
    page = (ROOT / "docs" / "publishing.md").read_text()
    examples = [path for path in EXAMPLES.iterdir() if path.suffix in {".py", ".mjs"}]
    assert len(examples) == 4
    assert [path.name for path in examples if f"\n{path.read_text()}```\n" not in page] == []


async def test_the_script_is_read_whole_while_it_runs(web: Web, redis_url: str) -> None:
    async with reading(web.client, "/streams/build.7/events") as reader:
        assert (await reader.next()).event == "position"
        assert await run_program(sys.executable, str(EXAMPLES / "script.py"), redis_url, "build.7") == ""
        events = await reader.rest()
    assert types_of(events) == [*["progress", "log"] * 4, "complete"]
    assert [data_of(event)["percentage"] for event in events[::2][:4]] == [25, 50, 75, 100]


async def test_the_coroutine_is_read_whole_when_it_is_called_as_arq_does(
    web: Web, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    example = loaded("coroutine")
    assert example.Worker.functions == [example.reply]
    ctx: dict[str, object] = {"job_id": "1"}
    await example.Worker.on_startup(ctx)
    await asyncio.gather(*[example.reply(ctx, f"chat.{n}", f"prompt {n}") for n in range(3)])
    for n in range(3):
        async with reading(web.client, f"/streams/chat.{n}/events") as reader:
            events = await reader.rest()
        assert tokens_of(events) == f"You said: prompt {n} "
        assert events[-1].event == "complete"


async def test_the_example_of_the_readme_is_read_whole(web: Web, redis_url: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    [block] = [block for block in blocks if "open_stream_sync" in block]
    text = block.replace("redis://127.0.0.1:6379/0", redis_url)
    assert redis_url in text
    async with reading(web.client, "/streams/chat.42/events") as reader:
        await run_program(sys.executable, "-c", text)
        events = await reader.until("complete")
    assert tokens_of(events) == "to be continued"


async def test_the_request_of_the_readme_is_stored_once_however_often_it_is_sent(redis_url: str) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    [block] = [block for block in blocks if "/streams/" in block]
    async with real_server(redis_url) as server:
        text = block.replace("curl http://127.0.0.1:8000", f"curl -sS http://127.0.0.1:{server.port}")
        assert str(server.port) in text
        first, again = [json.loads(await run_program("bash", "-c", text))["ids"] for _ in range(2)]
        history = (await server.client.get("/streams/chat.43/history")).json()["events"]
    assert first == again == [event["id"] for event in history]
    assert [(event["type"], json.loads(event["data"])["text"]) for event in history] == [
        ("token", "Hel"),
        ("token", "lo"),
    ]


# Celery.


class CeleryWorker:
    """A worker process with a pool of one process, and a client of its broker."""

    def __init__(self, process: asyncio.subprocess.Process, environment: dict[str, str], log: Path) -> None:
        self._process = process
        self._environment = environment
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def pool(self) -> list[int]:
        """Its processes that run tasks."""
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def send(self, name: str, prompt: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(CELERY, "--app", "celery_app", "call", "celery_app.reply", "--args", json.dumps([name, prompt])),
            cwd=EXAMPLES,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_START_SECONDS):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    """A server of its own: Celery's keys are no concern of ours."""
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def celery_worker(redis_url: str, broker: RedisServer, folder: Path) -> AsyncGenerator[CeleryWorker]:
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "BROKER_URL": broker.url.replace("unix://", "redis+socket://"),
        "PYTHONWARNINGS": "default",
    }
    log = folder / "celery.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(CELERY, "--app", "celery_app", "worker", "--concurrency", "1", "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", "--pidfile", ""),
            cwd=EXAMPLES,
            env=environment,
            stdout=file,
            stderr=file,
        )
    found = CeleryWorker(process, environment, log)
    try:
        await wait_until(lambda: " ready." in found.said, description="Celery is ready", timeout=_START_SECONDS)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(60):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def has_begun(hand: Hand, name: str, times: int) -> None:
    """Wait until a task has: Celery takes seconds to hear of a dead process of its pool."""

    async def is_so() -> bool:
        return [event.type for event in await hand.log(name)].count("begin") == times

    await wait_until(is_so, description=f"the task of {name} has begun {times} time(s)", timeout=_START_SECONDS)


async def until_tokens(reader: EventReader, count: int) -> list[ServerSentEvent]:
    found: list[ServerSentEvent] = []
    while sum(event.event == "token" for event in found) < count:
        found.append(await reader.next())
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_celery_task_is_read_whole_and_one_that_is_killed_leaves_its_stream_open_until_it_runs_again(
    web: Web, hand: Hand, redis_url: str, broker: RedisServer, tmp_path: Path
) -> None:
    count = 250  # five seconds: it has to be running still when its process is killed
    prompt = " ".join(f"word{number}" for number in range(count))
    async with celery_worker(redis_url, broker, tmp_path) as celery:
        async with reading(web.client, "/streams/chat.1/events") as reader:
            await celery.send("chat.1", "to be or not to be")
            await has_begun(hand, "chat.1", 1)
            events = await reader.until("complete")
        assert types_of(events) == ["position", "begin", *["token"] * 6, "complete"]
        assert tokens_of(events) == "to be or not to be "

        async with reading(web.client, "/streams/chat.2/events") as reader:
            await celery.send("chat.2", prompt)
            await has_begun(hand, "chat.2", 1)
            before = await until_tokens(reader, 3)
            [doomed] = celery.pool
            os.kill(doomed, signal.SIGKILL)
            await has_begun(hand, "chat.2", 2)
            after = await reader.until("complete")
    events = [*before, *after]
    begins = [data_of(event)["is_again"] for event in events if event.event == "begin"]
    assert begins == [False, True], celery.said
    types = [event.event for event in events]
    # Of the dead run a part, no end and no gap; then the whole of the second one.
    again = len(types) - 1 - types[::-1].index("begin")
    assert set(types[2:again]) == {"token"}
    assert 3 <= again - 2 < count
    assert tokens_of(events[again:]) == prompt + " "
    assert types[again:] == ["begin", *["token"] * count, "complete"]


# Other languages.


async def test_node_writes_a_stream_with_a_bare_socket_and_it_is_read_whole_by_its_bell(
    redis_url: str, hand: Hand
) -> None:
    node = which("node")
    assert node, "node is not installed on this machine; .ci/run installs it."
    socket = redis_url.removeprefix("unix://")
    async with serving(redis_url, sweep_seconds=60) as web:  # longer than the reader waits: only the bell is in time
        await web.until_ready()
        async with reading(web.client, "/streams/chat.42/events") as reader:
            assert (await reader.next()).event == "position"
            assert await run_program(node, str(EXAMPLES / "publish.mjs"), socket, "chat.42") == ""
            events = await reader.rest()
        again = {"last-event-id": events[1].id}
        async with reading(web.client, "/streams/chat.42/events", headers=again) as reader:
            assert [event.id for event in await reader.rest()] == [event.id for event in events[2:]]
    assert tokens_of(events) == "Hello from Node, 你好 "
    assert types_of(events) == [*["token"] * 4, "complete"]
    generation = events[0].id.partition("-")[0]
    assert [event.id for event in events] == [f"{generation}-{number}" for number in range(5)]
    assert 0 < await execute(hand.client, "PTTL", hand.keys.log("chat.42")) <= 86_400_000


class ForeignWriter:
    """Follows the rules of the page with nothing but commands."""

    def __init__(self, client: AsyncClient, random: int) -> None:
        self._client = client
        self._random = random
        self._key = Keys().log("chat.42")
        self._generation = int(time() * 1000) + 1 + random
        self._sequence = 0
        self.refused = 0

    async def emit(self, data: str, *end: str) -> None:
        try:
            await self._add(data, *end)
        except LogUnavailable as error:
            if "equal or smaller" not in str(error):
                raise
            self.refused += 1
            [[last, _]] = await execute(self._client, "XREVRANGE", self._key, "+", "-", "COUNT", 1)
            highest = int(last.partition(b"-")[0])
            self._generation = max(int(time() * 1000), highest) + 1 + self._random
            self._sequence = 0
            await self._add(data, *end)
        await execute(self._client, "PEXPIRE", self._key, 60_000)

    async def _add(self, data: str, *end: str) -> None:
        entry = f"{self._generation}-{self._sequence}"
        await execute(self._client, "XADD", self._key, entry, "e", "n", "d", data, "t", int(time() * 1000), *end)
        self._sequence += 1


async def test_writers_that_follow_the_rules_of_the_page_share_a_stream_with_each_other_and_with_ours(
    web: Web, client: AsyncClient, hand: Hand
) -> None:
    one, other = ForeignWriter(client, 1), ForeignWriter(client, 900)
    async with reading(web.client, "/streams/chat.42/events") as reader:
        await reader.next()
        for number in range(0, 30, 3):
            await one.emit(str(number))
            await other.emit(str(number + 1))
            await hand.publish("chat.42", [Draft("n", str(number + 2))], token=str(number))
        events = await reader.take(30)
    assert [data_of(event) for event in events] == list(range(30))
    assert types_of(events) == ["n"] * 30
    assert one.refused == 9
