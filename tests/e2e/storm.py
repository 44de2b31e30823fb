"""A storm: tasks keep coming while workers are killed and started again, one a second, and now and then one is frozen.

`Storm` starts, strikes and collects; `check` is the oracle for one task, over its log, its record, its dead letter,
what a reader saw over HTTP and what its side effects were. A frozen worker wakes up after its lease: a zombie, whose
writes a store can only refuse by the fence. Which worker is struck is drawn from a seed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from time import monotonic, time
from typing import Any, NamedTuple, cast

from tests.e2e.product import Product, Worker, log_key
from tests.e2e.reader import TERMINAL, Reader, Received, following
from tests.support.http import http_client
from tests.support.waiting import wait_until
from tests.tasks.storm import journal_key

STEPS = 12
PAUSE_MS = 120
#: Every so many strikes one worker is frozen, and let go so many strikes later: past its lease and the take-over.
_FREEZE_EVERY = 5
_FREEZE_FOR = 3


class Write(NamedTuple):
    """One write as it reached the store."""

    fence: int
    attempt: int
    step: int
    is_taken: bool


@dataclass(slots=True)
class Seen:
    """All that is left of one task."""

    task: dict[str, Any]
    #: Entries of the log: id, fields.
    log: list[tuple[str, dict[str, str]]]
    events: list[Received]
    statuses: list[int]
    writes: list[Write]


@dataclass(slots=True)
class Figures:
    tasks: int = 0
    kills: int = 0
    freezes: int = 0
    attempts: list[int] = field(default_factory=list[int])
    dead_letters: int = 0
    refused_writes: int = 0
    #: Seconds from the kill of a worker to the attempt that followed, of each task it ran.
    take_overs: list[float] = field(default_factory=list[float])

    def __str__(self) -> str:
        used = {number: self.attempts.count(number) for number in sorted(set(self.attempts))}
        longest = f"{max(self.take_overs):.2f} s" if self.take_overs else "none"
        return (
            f"{self.tasks} tasks, {self.kills} kills, {self.freezes} freezes; attempts used (how many tasks): {used}; "
            f"{self.dead_letters} dead letters, {self.refused_writes} late writes refused; "
            f"{len(self.take_overs)} attempts lost by a kill, longest time from kill to take-over {longest}"
        )


class Storm:
    """Strikes the workers of a product. Use `run`, then look at `seen` and `figures`."""

    def __init__(self, product: Product, *, seed: int) -> None:
        self._product = product
        self._random = random.Random(seed)
        self._killed_at: dict[int, float] = {}
        self._frozen: dict[Worker, int] = {}
        self._readers: dict[str, Reader] = {}
        self.seen: list[Seen] = []
        self.dead_letters: list[str] = []
        self.figures = Figures()

    async def run(self, *, seconds: int, tasks: int, calm_seconds: float) -> None:
        """Start the tasks spread over so many seconds, with a strike in each; then wait for every end."""
        async with AsyncExitStack() as stack:
            follows: list[asyncio.Task[None]] = []
            begins = monotonic()
            for strike in range(seconds):
                for number in range(tasks * strike // seconds, tasks * (strike + 1) // seconds):
                    reader = await self._start(number)
                    follows.append(await stack.enter_async_context(following(reader, timeout=seconds + calm_seconds)))
                await self._strike(strike)
                ends = begins + strike + 1
                await wait_until(lambda ends=ends: monotonic() >= ends, description="the next second")
            self._let_go(strike=None)
            await asyncio.gather(*follows)
        await self._collect()

    async def _start(self, number: int) -> Reader:
        kind = "storm_in_thread" if number % 2 else "storm"
        task_id = await self._product.start_task(kind, steps=STEPS, pause_ms=PAUSE_MS)
        reader = self._readers[task_id] = Reader(self._product.url, f"/tasks/{task_id}/events")
        # Every third one comes and goes, so that it also resumes from inside what becomes void.
        reader.drop_after = 0.7 if number % 3 == 2 else None
        return reader

    async def _strike(self, strike: int) -> None:
        self._let_go(strike)
        if strike % _FREEZE_EVERY == 1:
            worker = self._draw()
            os.kill(worker.pid, signal.SIGSTOP)
            self._frozen[worker] = strike + _FREEZE_FOR
            self.figures.freezes += 1
        worker = self._draw() if strike else await self._runs_one()
        killed_at = time()
        await worker.kill()
        self._killed_at[worker.pid] = killed_at
        self.figures.kills += 1
        await worker.start()

    async def _runs_one(self) -> Worker:
        """A worker that has begun a task: of one that dies sooner there is nothing to take over."""

        def has_begun() -> str:
            begun = (task_id for task_id in self._readers if 2 <= self._product.log_length(task_id) <= STEPS)
            return next(begun, "")

        task_id = await wait_until(has_begun, description="a task has begun", timeout=60)
        return self._product.runner(task_id)

    def _draw(self) -> Worker:
        return self._random.choice([worker for worker in self._product.workers if worker not in self._frozen])

    def _let_go(self, strike: int | None) -> None:
        """Wake up whoever was frozen for long enough; all of them when the storm is over."""
        for worker, until in list(self._frozen.items()):
            if strike is None or strike >= until:
                os.kill(worker.pid, signal.SIGCONT)
                del self._frozen[worker]

    async def _collect(self) -> None:
        async with http_client(self._product.url, timeout=30) as http:
            for task_id, reader in self._readers.items():
                task = (await http.get(f"/tasks/{task_id}")).raise_for_status().json()
                seen = Seen(task, self._log(task_id), reader.events, reader.statuses, self._writes(task_id))
                self.seen.append(seen)
        failed = sum(seen.task["status"] == "failed" for seen in self.seen)
        # Listed once whoever ended the task comes to it, or another worker or a server in its place.
        await wait_until(lambda: self._list_dead_letters(failed), description=f"{failed} dead letters", timeout=60)
        figures = self.figures
        figures.tasks = len(self.seen)
        figures.dead_letters = len(self.dead_letters)
        figures.attempts = [each.task["attempt"] for each in self.seen]
        figures.refused_writes = sum(not write.is_taken for each in self.seen for write in each.writes)
        figures.take_overs = [late for each in self.seen for late in self._take_overs(each)]

    async def _list_dead_letters(self, expected: int) -> bool:
        async with http_client(self._product.url, timeout=30) as http:
            found = (await http.get("/dead-letters", params={"limit": 100})).raise_for_status().json()
        assert found["next"] is None, "More dead letters than a page has."
        self.dead_letters = [each["task_id"] for each in found["dead_letters"]]
        return len(self.dead_letters) >= expected

    def _log(self, task_id: str) -> list[tuple[str, dict[str, str]]]:
        raw = self._product.redis.command("XRANGE", log_key(task_id), "-", "+")
        rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", raw)
        return [
            (event_id.decode(), {name.decode(): value.decode() for name, value in row.items()})
            for event_id, row in rows
        ]

    def _writes(self, task_id: str) -> list[Write]:
        lines = cast("list[bytes]", self._product.redis.command("LRANGE", journal_key(task_id), 0, -1))
        words = [line.decode().split() for line in lines]
        return [Write(int(fence), int(attempt), int(step), end == "taken") for fence, attempt, step, end in words]

    def _take_overs(self, seen: Seen) -> list[float]:
        """From each kill to the entry with which somebody else went on, by the one clock of this machine."""
        runs = [list(run) for _, run in groupby(seen.log, key=lambda entry: entry[0].partition("-")[0])]
        found: list[float] = []
        for run, next_run in pairwise(runs):
            pids = [json.loads(fields["d"])["pid"] for _, fields in run if fields["e"] == "worker"]
            killed_at = self._killed_at.get(pids[0]) if pids else None
            late = int(next_run[0][1]["t"]) / 1000 - killed_at if killed_at else 0
            found += [late] if late > 0 else []  # below: the worker was frozen, and was killed only later
        return found


def check(seen: Seen, dead_letters: Sequence[str]) -> None:
    """Everything that is promised of one task, whatever befell its workers."""
    status, task_id = seen.task["status"], seen.task["id"]
    assert status in {"completed", "failed"}, seen.task
    assert dead_letters.count(task_id) == (status == "failed"), f"{task_id} is {status}: {dead_letters}"
    logged = [Received(event_id, fields["e"], fields["d"]) for event_id, fields in seen.log]
    assert_contiguous(logged)
    ends = [event.type for event in logged if event.type in TERMINAL]
    assert ends == ["complete" if status == "completed" else "error"], f"{task_id} ended {ends}"
    assert logged[-1].type in TERMINAL, f"{task_id} went on behind its end"
    assert_read(seen, logged)
    assert_no_overlap(seen)


def assert_contiguous(events: Sequence[Received]) -> None:
    """Generations that only rise, each from its first event on and without a hole."""
    runs = [(generation, list(run)) for generation, run in groupby(events, key=lambda event: event.generation)]
    generations = [generation for generation, _ in runs]
    assert generations == sorted(set(generations)), generations
    for _, run in runs:
        assert [event.sequence for event in run] == list(range(len(run))), [event.id for event in run]


def assert_read(seen: Seen, logged: Sequence[Received]) -> None:
    """A reader saw nothing but what is in the log, in its order; the last run it saw whole."""
    assert "gap" not in {event.type for event in seen.events}
    assert seen.statuses[-1] == 204
    assert set(seen.statuses[:-1]) == {200}, seen.statuses
    numbered = [event for event in seen.events if event.type not in {"position", "stalled"}]
    assert_contiguous(numbered)
    ids = [event.id for event in numbered]
    assert set(ids) <= {event.id for event in logged}, "A reader saw what is not in the log."
    last = [event.id for event in logged if event.generation == logged[-1].generation]
    assert ids[-len(last) :] == last, f"{ids} does not end with {last}"


def assert_no_overlap(seen: Seen) -> None:
    """Side effects by fence: one run after the other, each from its first step on, and the last one to its end."""
    taken = [write for write in seen.writes if write.is_taken]
    fences = [write.fence for write in taken]
    assert fences == sorted(fences), f"A write was taken behind one with a higher fence: {seen.writes}"
    attempt_of = {write.fence: write.attempt for write in seen.writes}
    assert {(write.fence, write.attempt) for write in seen.writes} == set(attempt_of.items()), seen.writes
    assert [attempt_of[fence] for fence in sorted(attempt_of)] == sorted(set(attempt_of.values())), seen.writes
    for fence, run in groupby(taken, key=lambda write: write.fence):
        steps = [write.step for write in run]
        assert steps == list(range(len(steps))), f"{fence}: {steps}"
    if seen.task["status"] == "completed":
        assert [write.step for write in taken if write.fence == fences[-1]] == list(range(STEPS)), seen.writes
        assert seen.task["result"] == {"fence": fences[-1]}, seen.task
