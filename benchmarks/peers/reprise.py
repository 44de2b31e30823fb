"""The product: one `reprise server`, and one `reprise worker` whose tasks write the streams.

Only the command line and HTTP are used, as anybody would.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from benchmarks.gate import Gate
from benchmarks.load.spec import Emission
from benchmarks.peers.peer import Site
from benchmarks.peers.processes import Program, Unusable, free_port, listens, running, start
from benchmarks.peers.redis import Redis, running_redis
from benchmarks.tasks import PACED, UNPACED

_ROOT: Final = Path(__file__).parents[2]
_HOST: Final = "127.0.0.1"
_TIMEOUT_SECONDS: Final = 30.0
#: Tasks that the worker runs side by side: more than any scenario has.
_SLOTS: Final = 8500
_READY_SECONDS: Final = 90.0
#: Below every time after which an idle connection is closed.
_IDLE_SECONDS: Final = 10.0

#: What differs from the defaults, for server and worker.
SETTINGS: Final = {"REPRISE_LOG_LEVEL": "warning"}
SERVER_SETTINGS: Final = {"REPRISE_MAX_CONNECTIONS": "20000"}


class Tasks:
    """Tasks that wait at a gate: the product's `Publication`."""

    def __init__(self, peer: Reprise, gate: Gate, ids: list[str]) -> None:
        self.paths = tuple(f"/tasks/{each}/events" for each in ids)
        self.ids = ids
        self._peer = peer
        self._gate = gate

    def go(self, at_ns: int) -> None:
        self._gate.open(at_ns)

    def wait(self, within_seconds: float) -> None:
        self.results(within_seconds)

    def results(self, within_seconds: float) -> list[dict[str, Any]]:
        """What each task returned. Raises `Unusable` if one did not complete."""
        deadline = time.monotonic() + within_seconds
        found: list[dict[str, Any]] = []
        for each in self.ids:
            while (record := self._peer.call("GET", f"/tasks/{each}"))["status"] != "completed":
                if record["status"] in {"failed", "cancelled"} or time.monotonic() > deadline:
                    raise Unusable(f"Task {each} did not complete: it is {record['status']}, {record['error']!r}.")
                time.sleep(0.02)
            found.append(record["result"])
        return found


class Reprise:
    """The running product."""

    host = _HOST
    line_end = b"\n"

    def __init__(self, site: Site, redis: Redis, stack: contextlib.ExitStack) -> None:
        self._site = site
        self.redis = redis
        self._stack = stack
        self.port = free_port()
        self.server = self._start_server()
        self._worker = self._start_worker()
        self._connection = http.client.HTTPConnection(_HOST, self.port, timeout=_TIMEOUT_SECONDS)
        self._called_at = time.monotonic()
        stack.callback(self._connection.close)
        self.server.wait_until(lambda: listens(self.port), what="listen")

    def prepare(self, emission: Emission) -> Tasks:
        inputs: list[dict[str, Any]] = [
            {
                "stream": stream,
                "streams": emission.streams,
                "events": emission.events,
                "rate": emission.rate,
                "event_bytes": emission.event_bytes,
                "preload": emission.preload,
                "preload_bytes": emission.preload_bytes,
            }
            for stream in range(emission.streams)
        ]
        return self._tasks(PACED, inputs)

    def prepare_unpaced(self, tasks: int, *, seconds: float) -> Tasks:
        """Tasks that emit as fast as they can."""
        return self._tasks(UNPACED, [{"seconds": seconds}] * tasks)

    def accounts(self) -> dict[str, list[int]]:
        return {
            "server": [self.server.pid],
            "redis": [self.redis.program.pid],
            "writers": [self._worker.pid],
        }

    def kill_server(self) -> int:
        return self.server.kill()

    def restart_server(self) -> None:
        self.server = self._start_server()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request to the server; returns the JSON of the answer. Raises `Unusable` for a refusal."""
        text = None if body is None else json.dumps(body)
        if time.monotonic() - self._called_at > _IDLE_SECONDS:
            self._connection.close()  # the server may have closed it meanwhile
        try:
            self._connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            answer = self._connection.getresponse()
            said = answer.read()
        except OSError:
            self._connection.close()  # the next call dials again
            raise
        self._called_at = time.monotonic()
        if answer.status >= 300:
            raise Unusable(f"{method} {path} was answered {answer.status}: {said[:300]!r}.")
        return json.loads(said)

    def _tasks(self, task_type: str, inputs: list[dict[str, Any]]) -> Tasks:
        gate = Gate(self._site.folder / "gate")
        worker = self._worker
        worker.wait_until(lambda: self._offers(task_type), what="offer its tasks")
        ids: list[str] = [
            self.call("POST", "/tasks", {"type": task_type, "input": {"gate": str(gate.folder), **each}})["id"]
            for each in inputs
        ]
        worker.wait_until(
            lambda: gate.waiting == len(ids), what=f"start {len(ids)} tasks", within_seconds=_READY_SECONDS
        )
        return Tasks(self, gate, ids)

    def _offers(self, task_type: str) -> bool:
        return any(each["name"] == task_type for each in self.call("GET", "/task-types")["task_types"])

    def _start_server(self) -> Program:
        program = start(
            "reprise server",
            [_command(), "server", "--port", str(self.port)],
            folder=self._site.folder,
            environment={**self._environment(), **SERVER_SETTINGS},
            cpus=self._site.server_cpus,
        )
        self._stack.enter_context(running(program))
        return program

    def _start_worker(self) -> Program:
        program = start(
            "reprise worker",
            [_command(), "worker", "--tasks", "benchmarks.tasks", "--concurrency", str(_SLOTS)],
            folder=self._site.folder,
            # The worker imports the benchmark's tasks wherever it is started.
            environment={**self._environment(), "PYTHONPATH": str(_ROOT)},
            cpus=self._site.writer_cpus,
        )
        self._stack.enter_context(running(program))
        return program

    def _environment(self) -> dict[str, str]:
        return {**SETTINGS, "REPRISE_REDIS_URL": self.redis.url}


def _command() -> str:
    return str(Path(sys.executable).with_name("reprise"))


@contextlib.contextmanager
def running_reprise(site: Site) -> Generator[Reprise]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(site.folder, cpus=site.other_cpus))
        yield Reprise(site, redis, stack)
