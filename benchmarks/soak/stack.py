"""The programs of a soak: Redis, one server, one worker, with settings by which they reach their steady state soon."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.processes import Program, free_port, listens, running, start
from benchmarks.peers.redis import Redis, running_redis
from benchmarks.soak.watched import Counted

_ROOT: Final = Path(__file__).parents[2]
#: What ends is kept for seconds instead of days, and lists are as long as they will get.
RETENTION_SECONDS: Final = 15
RESULT_SECONDS: Final = 30
SETTINGS: Final = {
    "REPRISE_LOG_LEVEL": "error",
    "REPRISE_LOG_FORMAT": "console",
    "REPRISE_LEASE_SECONDS": "5",
    "REPRISE_RETENTION_SECONDS": str(RETENTION_SECONDS),
    "REPRISE_RESULT_SECONDS": str(RESULT_SECONDS),
    "REPRISE_DEAD_LETTER_SECONDS": str(RESULT_SECONDS),
    "REPRISE_MAX_STREAM_EVENTS": "1000",
    "REPRISE_CONCURRENCY": "200",
    "REPRISE_TASKS": "benchmarks.soak.tasks",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """The running programs."""

    folder: Path
    port: int
    redis: Redis
    programs: dict[str, Program]

    @property
    def product(self) -> dict[str, int]:
        """Process ids of server and worker."""
        return {name: program.pid for name, program in self.programs.items()}

    @property
    def redis_pid(self) -> int:
        return self.redis.program.pid

    def redis_info(self, section: str) -> dict[str, Any]:
        return self._command("INFO", section)

    def redis_keys(self) -> list[bytes]:
        return self._command("KEYS", "*")

    def counted(self, name: str) -> Counted:
        """What a program of the product last counted of itself."""
        file = self.folder / f"{name}.count"
        return json.loads(file.read_text()) if file.exists() else Counted(asyncio_tasks=0, pooled_connections=0)

    def check(self) -> None:
        """Raise `Unusable` if a program has ended."""
        for program in (self.redis.program, *self.programs.values()):
            program.check()

    def said(self) -> dict[str, str]:
        """What server and worker wrote: errors, which a soak must not bring about."""
        found = {name: (self.folder / f"{name}.log").read_text(errors="replace") for name in self.programs}
        return {name: text for name, text in found.items() if text.strip()}

    def _command(self, *words: str) -> Any:
        import redis  # noqa: PLC0415 (nobody else here speaks to Redis)

        with redis.Redis(port=self.redis.port) as client:
            return client.execute_command(*words)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@contextlib.contextmanager
def running_stack(folder: Path) -> Generator[Stack]:
    """Everything started and ready, and ended afterwards."""
    with contextlib.ExitStack() as exits:
        redis = exits.enter_context(running_redis(folder))
        port = free_port()
        environment = {**SETTINGS, "REPRISE_REDIS_URL": redis.url, "PYTHONPATH": str(_ROOT)}
        programs = {
            name: exits.enter_context(
                running(start(name, _command(folder, name, options), folder=folder, environment=environment))
            )
            for name, options in (("server", ["--port", str(port)]), ("worker", []))
        }
        programs["server"].wait_until(lambda: listens(port), what="listen")
        yield Stack(folder, port, redis, programs)


def _command(folder: Path, name: str, options: list[str]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.soak.watched", str(folder / f"{name}.count"), name, *options]
