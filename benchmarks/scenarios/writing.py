"""(h): what one worker process appends, and how soon a browser sees what is emitted.

Appended events are counted in Redis, from the streams' own counters, over a stretch in which all tasks emit. When they
have ended, every event that a task says it emitted must be in its log once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Final, Self

from benchmarks.load.spec import Emission
from benchmarks.load.transcript import Broken
from benchmarks.measure import cpu_seconds, percentile
from benchmarks.peers.peer import Design
from benchmarks.peers.reprise import Reprise
from benchmarks.scenarios.delivery import deliver
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, figure_of
from benchmarks.stage import Stage

TASKS: Final = 200
#: 2000 events a second over all tasks, each with its reader.
TO_BROWSERS: Final = Emission(streams=TASKS, events=30, rate=10)
_EMIT_SECONDS: Final = 3.0
_SKIP_SECONDS: Final = 0.7
_COUNT_SECONDS: Final = 2.0
_END_SECONDS: Final = 60.0
#: The last event of each task comes while two thousand tasks a second end, which is another load: shown apart.
_LAST: Final = TO_BROWSERS.events - 1
#: `attempt` and `complete`, which the worker writes itself.
_AROUND: Final = 2


def _run(stage: Stage, design: Design) -> Figures:
    with stage.product() as product:
        appended = _append(stage, product)
    with stage.product() as product:
        found = deliver(stage, product, TO_BROWSERS, subscribers=1)
    seen = found.figures()
    sampled = found.drained.sampled
    return {
        **appended,
        **{name: seen[name] for name in ("load_share", "others_share")},
        "p50_ms": _percentile_ms([each for number, each in sampled if number < _LAST], 0.5),
        "p99_ms": _percentile_ms([each for number, each in sampled if number < _LAST], 0.99),
        "last_p99_ms": _percentile_ms([each for number, each in sampled if number == _LAST], 0.99),
    }


def _percentile_ms(latencies: list[int], share: float) -> float:
    return percentile(latencies, share) / 1e6


def _append(stage: Stage, product: Reprise) -> dict[str, float]:
    stage.step("preparing")
    tasks = product.prepare_unpaced(TASKS, seconds=_EMIT_SECONDS)
    accounts = product.accounts()
    with _Counters(product.redis.port, tasks.ids) as counters:
        stage.step("emitting")
        tasks.go(time.monotonic_ns())
        time.sleep(_SKIP_SECONDS)
        began, before = time.monotonic(), sum(counters.read())
        spent = {name: cpu_seconds(accounts[name]) for name in ("writers", "redis")}
        time.sleep(_COUNT_SECONDS)
        seconds, events = time.monotonic() - began, sum(counters.read()) - before
        spent = {name: cpu_seconds(accounts[name]) - was for name, was in spent.items()}
        emitted = [int(each["emitted"]) for each in tasks.results(_END_SECONDS)]
        for task, said, stored in zip(tasks.ids, emitted, counters.read(), strict=True):
            if stored != said + _AROUND:
                raise Broken(f"Stream {task}: its task emitted {said} events, and {stored - _AROUND} were appended.")
    return {
        "appended_per_second": events / seconds,
        "writer_us": spent["writers"] / events * 1e6,
        "redis_us": spent["redis"] / events * 1e6,
    }


class _Counters:
    """How many entries each task's log has ever got, asked of Redis in one go."""

    def __init__(self, port: int, ids: list[str]) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._replies = self._connection.makefile("rb")
        keys = [f"reprise:{{tasks.{each}}}:log".encode() for each in ids]
        self._asked = b"".join(b"*3\r\n$5\r\nXINFO\r\n$6\r\nSTREAM\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys)
        self._count = len(ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._connection.close()

    def read(self) -> list[int]:
        self._connection.sendall(self._asked)
        found: list[int] = []
        lines = self._lines()
        while len(found) < self._count:
            if next(lines) == b"entries-added":
                found.append(int(next(lines)[1:]))
        # The rest of the last reply: two members with an entry each, which are read and dropped.
        self._drain()
        return found

    def _lines(self) -> Iterator[bytes]:
        while line := self._replies.readline():
            if line.startswith(b"-"):
                raise Broken(f"Redis refused to count entries: {line.decode().strip()}")
            yield line.strip()

    def _drain(self) -> None:
        self._connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        for line in self._lines():
            if line == b"+PONG":
                return


WRITING: Final = Scenario(
    key="h",
    title="1 worker process, 200 tasks",
    run=_run,
    designs=(Design.REPRISE,),
    shown=(
        Shown("appended_per_second", "appended, each task as fast as it can", "events/s", 0),
        Shown("writer_us", "worker CPU per event", "µs"),
        Shown("redis_us", "Redis CPU per event", "µs"),
        Shown("p99_ms", "emit to browser p99 at 2000 events/s", "ms"),
        Shown("last_p99_ms", "the same of the last events, with all tasks ending within 0.1 s", "ms"),
    ),
    targets=(
        Target("appended events/s", figure_of("h", "appended_per_second"), 30_000, is_at_least=True, digits=0),
        Target("emit to browser p99, ms", figure_of("h", "p99_ms"), 20.0, is_at_least=False, digits=1),
    ),
)
