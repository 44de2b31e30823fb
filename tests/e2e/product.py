"""The product as it is deployed: server and worker processes on one Redis, each of which a test may kill and restart.

A process keeps its port and its log file across restarts, so a reader finds it again and a test can read all it has
said. Whatever is still running at the end is ended; a traceback in any log fails the test. Knows nothing of readers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.http import http_client
from tests.support.ports import unused_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
REPRISE = str(Path(sys.executable).parent / "reprise")
#: The demo tasks, and one that emits as many events as it is told to.
TASK_MODULES = ("workers.examples", "tests.tasks.emitters")
#: A start imports everything, which on a machine that is busy with other tests takes its time.
START_SECONDS = 90.0
#: More than a drain may take.
_END_SECONDS = 60.0
_WRITTEN_BACK = re.compile(r"writing (\d+) events back")
_TASK_FAILED = re.compile(r'"message": "Task \S+ \(\S+\) failed: ')


class Process:
    """One process of the product, started with the same arguments every time."""

    #: What is started with the arguments.
    program: Sequence[str] = (REPRISE,)

    def __init__(self, name: str, arguments: Sequence[str], *, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._folder = folder
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process, f"{self.name} was never started."
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def text(self) -> str:
        """All it has said, restarts included."""
        return self.log.read_text() if self.log.exists() else ""

    async def start(self) -> None:
        assert not self.is_running, f"{self.name} runs already."
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self.program, *self._arguments),
                cwd=self._folder,
                env=_environment(self._settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        return await self._end(signal.SIGTERM)

    async def close(self) -> None:
        """End it if it runs. Whether it ends in order is for tests that ask for it: a drain takes its time."""
        if self.is_running:
            await self.kill()

    async def _end(self, number: signal.Signals) -> int:
        assert self._process, f"{self.name} was never started."
        self._process.send_signal(number)
        try:
            async with asyncio.timeout(_END_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            self._process.send_signal(signal.SIGABRT)  # its stacks go to its log
            await self._process.wait()
            raise AssertionError(f"{self.name} did not end within {_END_SECONDS} s:\n{self.text[-6000:]}") from None


class Server(Process):
    """A replica. It listens on a port of its own, which it keeps."""

    def __init__(self, name: str, *, folder: Path, settings: Mapping[str, str]) -> None:
        self.port = unused_port()
        super().__init__(name, ["server", "--port", str(self.port)], folder=folder, settings=settings)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 (a list of names is all that is wanted)

    async def health(self, kind: str = "ready") -> int:
        """Status of the answer to a health check; 0 without an answer."""
        async with http_client(self.url, timeout=30) as http:
            with suppress(httpx.HTTPError):
                return (await http.get(f"/health/{kind}")).status_code
        return 0

    async def ready(self) -> None:
        async def is_ready() -> bool:
            assert self.is_running, f"{self.name} has ended:\n{self.text}"
            return await self.health() == 200

        try:
            await wait_until(is_ready, description=f"{self.name} is ready", timeout=START_SECONDS)
        except AssertionError as late:
            raise AssertionError(f"{late} It said:\n{self.text[-3000:]}") from None


class Worker(Process):
    def __init__(self, name: str, *, modules: Sequence[str], folder: Path, settings: Mapping[str, str]) -> None:
        options = [word for module in modules for word in ("--tasks", module)]
        super().__init__(name, ["worker", *options, "--name", name], folder=folder, settings=settings)


def events_written_back(workers: Sequence[Worker]) -> int:
    """As the workers say: what they kept, wherever Redis had lost something of a task's log."""
    return sum(int(count) for worker in workers for count in _WRITTEN_BACK.findall(worker.text))


@dataclass
class Product:
    """All processes of one installation."""

    redis: RedisServer
    folder: Path
    settings: Mapping[str, str]
    modules: Sequence[str] = TASK_MODULES
    servers: list[Server] = field(default_factory=list[Server])
    workers: list[Worker] = field(default_factory=list[Worker])

    @property
    def url(self) -> str:
        """Address of the first server."""
        return self.servers[0].url

    def add_server(self, **settings: str) -> Server:
        """One more server, not started; `settings` are its own."""
        name = f"server{len(self.servers) + 1}"
        server = Server(name, folder=self.folder, settings={**self._all_settings(), **settings})
        self.servers.append(server)
        return server

    def add_worker(self) -> Worker:
        """One more worker, not started."""
        name = f"worker{len(self.workers) + 1}"
        worker = Worker(name, modules=self.modules, folder=self.folder, settings=self._all_settings())
        self.workers.append(worker)
        return worker

    async def ready(self) -> None:
        """Wait until every server is ready and a worker offers its tasks."""
        await asyncio.gather(*(server.ready() for server in self.servers))
        if self.workers:
            await wait_until(self._has_types, description="a worker offers tasks", timeout=START_SECONDS)

    async def start_task(self, type: str, *, url: str = "", **input: Any) -> str:
        """Start a task, retrying as clients do; its id."""
        async with http_client(url or self.url, timeout=30) as http:
            response = await http.post("/tasks", json={"type": type, "input": input})
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        """The task's record, as the first server tells it."""
        async with http_client(self.url, timeout=30) as http:
            return (await http.get(f"/tasks/{task_id}")).raise_for_status().json()

    def emitted_in_all(self, task_id: str) -> int:
        """How many events a task that has ended emitted, by its own count; no server is asked."""
        end = self.redis.command("HGET", record_key(task_id), "end")
        assert isinstance(end, bytes), f"{task_id} has not ended."
        return json.loads(end)["result"]["count"]

    def runner(self, task_id: str) -> Worker:
        """The worker process that runs the task."""
        runs_on = self.redis.command("HGET", record_key(task_id), "worker")
        assert isinstance(runs_on, bytes), f"Nobody runs {task_id}."
        (found,) = [worker for worker in self.workers if worker.name.encode() in runs_on]
        return found

    def log_length(self, task_id: str) -> int:
        """How many events are in the task's log; 0 without a log."""
        found = self.redis.command("XLEN", log_key(task_id))
        assert isinstance(found, int)
        return found

    async def emitted(self, task_id: str, count: int, *, timeout: float = 60) -> None:
        """Wait until so many events are in the task's log."""
        await wait_until(
            lambda: self.log_length(task_id) >= count, description=f"{count} events in {task_id}", timeout=timeout
        )

    def assert_no_traceback(self) -> None:
        """A task function's own exception is told with its traceback; there may be no other."""
        for process in [*self.servers, *self.workers]:
            lines = [line for line in process.text.splitlines() if "Traceback" in line]
            assert [line for line in lines if not _TASK_FAILED.search(line)] == [], process.name

    async def _has_types(self) -> bool:
        async with http_client(self.url, timeout=30) as http:
            names = [each["name"] for each in (await http.get("/task-types")).json()["task_types"]]
        return "emit_many" in names

    def _all_settings(self) -> dict[str, str]:
        return {"REPRISE_REDIS_URL": self.redis.url, **self.settings}


@asynccontextmanager
async def product(
    folder: Path,
    *,
    servers: int = 1,
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
    modules: Sequence[str] = (),
) -> AsyncGenerator[Product]:
    """Run so many processes on a Redis of their own, with their logs in `folder`; yield once all are ready.

    Workers offer what is in `modules` besides the tasks that they always offer.
    """
    with RedisServer(keeps_data=True) as redis:
        found = Product(redis, folder, settings or {}, (*TASK_MODULES, *modules))
        try:
            started: list[Process] = [*(found.add_server() for _ in range(servers))]
            started += [found.add_worker() for _ in range(workers)]
            await asyncio.gather(*(process.start() for process in started))
            await found.ready()
            yield found
        finally:
            if redis.is_running:
                redis.resume()
            await asyncio.gather(*(process.close() for process in [*found.servers, *found.workers]))
        found.assert_no_traceback()


def log_key(task_id: str) -> str:
    return f"reprise:{{tasks.{task_id}}}:log"


def record_key(task_id: str) -> str:
    return f"reprise:{{tasks.{task_id}}}:task"


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """That of this process with these settings and no others; tests' own task functions can be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("REPRISE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **settings}
