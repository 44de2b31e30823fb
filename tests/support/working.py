"""Workers for tests, in this process or in their own, and a bench to give them tasks and see what became of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from server.streams.announcements import Announcer
from server.streams.calls import Lifetimes
from server.streams.connections import AsyncClient, execute
from server.streams.dead_letters import DeadLetters
from server.streams.errors import LogUnavailable
from server.streams.event import Event
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.names import task_stream
from server.streams.ready import GROUP
from server.streams.records import TaskRecord
from server.streams.registry import Registry
from server.streams.tasks import NewTask, TaskStore
from tests.support.waiting import wait_until
from workers.loading import load_tasks
from workers.main import open_worker
from workers.settings import WorkerSettings
from workers.worker import Worker

#: The shortest there is: a test that waits for a lease to run out waits this long.
LEASE_SECONDS = 1.0
MODULES = ("workers.examples", "tests.tasks.emitters", "tests.tasks.awkward")
_ROOT = Path(__file__).parents[2]


class Bench:
    """Creates tasks and looks at their records and logs, as a server would."""

    def __init__(self, client: AsyncClient, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.registry = Registry(client, keys)
        self.log = Log(client, keys, lifetimes=Lifetimes(), max_events=10_000)
        self.store = TaskStore(client, keys, Announcer(self.log), lifetimes=Lifetimes(), may_judge_expired=lambda: True)
        self.dead_letters = DeadLetters(client, keys, self.store, lifetimes=Lifetimes())

    async def create(
        self,
        type: str,
        *,
        max_attempts: int = 3,
        queue: str = "default",
        on_worker_lost: str = "retry",
        **input: Any,
    ) -> str:
        new = NewTask(type, input, queue=queue, max_attempts=max_attempts, on_worker_lost=on_worker_lost)
        return (await self.store.create(new)).id

    async def events(self, task_id: str) -> list[Event]:
        snapshot = await self.log.read(task_stream(task_id), limit=10_000)
        return list(snapshot.events)

    async def types(self, task_id: str) -> list[str]:
        return [event.type for event in await self.events(task_id)]

    async def datas(self, task_id: str, event_type: str) -> list[Any]:
        return [json.loads(event.data) for event in await self.events(task_id) if event.type == event_type]

    async def updates(self, task_id: str, *, stream: str = "tasks") -> list[dict[str, Any]]:
        """What was announced of the task."""
        snapshot = await self.log.read(stream, limit=10_000)
        datas: list[dict[str, Any]] = [json.loads(event.data) for event in snapshot.events]
        return [data for data in datas if data.get("task_id") == task_id]

    async def end(self, task_id: str, *, timeout: float = 40) -> TaskRecord:
        """Wait for the end and return the record."""

        async def ended() -> TaskRecord | None:
            record = await self.store.find(task_id)
            return record if record and record.status.is_ended else None

        found = await wait_until(ended, description=f"task {task_id} ends", timeout=timeout)
        assert found
        return found

    async def has_emitted(self, task_id: str, event_type: str, *, count: int = 1, timeout: float = 30) -> None:
        async def there() -> bool:
            return (await self.types(task_id)).count(event_type) >= count

        await wait_until(there, description=f"{count} × {event_type!r} in {task_id}", timeout=timeout)

    async def queue_length(self, queue: str = "default") -> int:
        return sum([int(await execute(self.client, "XLEN", stream)) for stream in await self._ready_streams(queue)])

    async def reconnected(self) -> None:
        """Wait until Redis answers again: the first command after a restart finds a dead connection."""

        async def answers() -> bool:
            with suppress(LogUnavailable):
                return bool(await execute(self.client, "PING"))
            return False

        await wait_until(answers, description="Redis answers")

    async def pending(self, queue: str = "default") -> int:
        """How many entries workers hold."""
        found: list[dict[str, int]] = [
            await execute(self.client, "XPENDING", stream, GROUP) for stream in await self._ready_streams(queue)
        ]
        return sum(each["pending"] for each in found)

    async def _ready_streams(self, queue: str) -> list[bytes]:
        return await execute(self.client, "KEYS", self.keys.ready(queue, "*"))

    async def queue_is_empty(self, queue: str = "default", *, timeout: float = 40) -> None:
        async def empty() -> bool:
            return await self.queue_length(queue) == 0

        await wait_until(empty, description="every queue entry is acked and deleted", timeout=timeout)


@asynccontextmanager
async def working(url: str, *modules: str, **settings: Any) -> AsyncGenerator[Worker]:
    """A ready worker on this event loop; stopped, and its functions with it, at the end."""
    given: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "drain_seconds": 0.1, **settings}
    found = WorkerSettings(redis_url=SecretStr(url), **given)
    async with open_worker(found, load_tasks(modules or MODULES)) as worker:
        ready = asyncio.Event()
        worker.on_ready = ready.set
        running = asyncio.create_task(worker.run(), name="worker")
        await asyncio.wait_for(ready.wait(), 30)
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(running, 40)


class WorkerProcess:
    """`python -m workers` as a process of its own, which a test may kill and freeze."""

    def __init__(self, url: str, *, modules: tuple[str, ...] = MODULES, **settings: Any) -> None:
        given = {"lease_seconds": LEASE_SECONDS, "log_format": "json", "redis_url": url, "tasks": ",".join(modules)}
        variables = {f"REPRISE_{name.upper()}": str(value) for name, value in (given | settings).items()}
        # Not the variables of the tests themselves: a worker would refuse them as misspelt settings.
        others = {name: value for name, value in os.environ.items() if not name.startswith("REPRISE_")}
        self._environment = others | variables
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "workers"]
        self._process = subprocess.Popen(command, cwd=_ROOT, env=self._environment, stderr=self._output)
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        ended = self.process.poll()
        if ended is None:
            self.send(signal.SIGKILL)
            self.process.wait(30)
        if failure:  # pytest shows it with the failing test
            said = os.pread(self._output.fileno(), 1 << 20, 0).decode()[-20_000:]
            print(f"The worker {'ran' if ended is None else f'had ended with {ended}'} and had said:\n{said}")  # noqa: T201
        self._output.close()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process, "The worker was not started."
        return self._process

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def lines(self) -> list[dict[str, Any]]:
        """Everything it has logged."""
        raw = os.pread(self._output.fileno(), 1 << 20, 0)
        return [json.loads(line) for line in raw.decode().splitlines(keepends=True) if line.endswith("\n")]

    def messages(self) -> list[str]:
        return [str(line.get("message")) for line in self.lines()]

    def has_said(self, text: str) -> bool:
        return any(text in message for message in self.messages())

    async def says(self, text: str, *, timeout: float = 90) -> None:
        """Wait for a log line."""
        await wait_until(lambda: self.has_said(text), description=f"the worker says {text!r}", timeout=timeout)

    async def ends(self, *, timeout: float = 60) -> int:
        """Wait for its end and return the exit code."""
        await wait_until(lambda: self.process.poll() is not None, description="the worker ends", timeout=timeout)
        return self.process.wait()
