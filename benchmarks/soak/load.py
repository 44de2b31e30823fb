"""The load of a soak: tasks that emit, one after the other in each slot, and readers that come, drop, resume and leave.

A reader behaves as a browser does: it comes back with the last id it had. It checks that the numbers it gets are
without holes and repeats; whatever else it meets is counted and fails the soak.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from benchmarks.soak.tasks import EMIT

#: How long a task emits.
_TASK_SECONDS: Final = 8.0
#: Between two visits of one reader, and how long a visit lasts at most.
_PAUSE_SECONDS: Final = 0.5
_VISIT_SECONDS: Final = 12.0
#: Of all visits that end before their task does.
_SHARE_THAT_RESUMES: Final = 0.5
_ANSWER_SECONDS: Final = 20.0


class Wrong(Exception):
    """Something that a soak must not meet. A sentence."""


class Load:
    """Everything that is going on. `run` ends when `stop` was called and the last task has ended."""

    def __init__(self, port: int, *, rate: float, streams: int, readers: int, seed: int) -> None:
        self._port = port
        self._rate = rate / streams
        self._streams = streams
        self._readers = readers
        self._random = random.Random(seed)
        self._running: list[str] = []
        self._stopping = asyncio.Event()
        #: events, tasks, visits, resumptions, and whatever went wrong.
        self.counts: Counter[str] = Counter()
        self.wrongs: list[str] = []

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._streams):
                group.create_task(self._keep_emitting())
            for _ in range(self._readers):
                group.create_task(self._keep_reading())

    async def _keep_emitting(self) -> None:
        # Not all at once: what ends together begins together again, for ever.
        await asyncio.sleep(self._random.uniform(0, _TASK_SECONDS))
        events = int(self._rate * _TASK_SECONDS)
        while not self._stopping.is_set():
            try:
                task = await self._call(
                    "POST", "/tasks", {"type": EMIT, "input": {"events": events, "rate": self._rate}}
                )
                self._running.append(task["id"])
                await self._follow_to_end(task["id"], events)
                self._running.remove(task["id"])
                self.counts["tasks"] += 1
            except (Wrong, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self._note(f"A task: {error!r}")
                await asyncio.sleep(1)

    async def _follow_to_end(self, task_id: str, events: int) -> None:
        """One reader follows each task to its end: what it says is that all was delivered."""
        reader = Reader(self._port, task_id)
        while not reader.has_ended:
            await reader.visit(_ANSWER_SECONDS + _TASK_SECONDS)
        self.counts["events"] += reader.received
        if reader.received != events:
            raise Wrong(f"Task {task_id} emitted {events} events and its reader got {reader.received}.")

    async def _keep_reading(self) -> None:
        while not self._stopping.is_set():
            await asyncio.sleep(self._random.uniform(0, _PAUSE_SECONDS))
            if not self._running:
                continue
            reader = Reader(self._port, self._random.choice(self._running))
            try:
                await self._read(reader)
            except (Wrong, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self._note(f"A reader: {error!r}")

    async def _read(self, reader: Reader) -> None:
        while True:
            await reader.visit(self._random.uniform(0.05, _VISIT_SECONDS))
            self.counts["visits"] += 1
            if reader.has_ended or self._random.random() > _SHARE_THAT_RESUMES:
                self.counts["delivered"] += reader.received
                return
            self.counts["resumptions"] += 1

    def _note(self, wrong: str) -> None:
        self.counts["wrong"] += 1
        if len(self.wrongs) < 20:
            self.wrongs.append(wrong)

    async def _call(self, method: str, path: str, body: object) -> Any:
        text = json.dumps(body).encode()
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                head = (
                    f"{method} {path} HTTP/1.1\r\nhost: soak\r\nconnection: close\r\ncontent-type: application/json\r\n"
                )
                writer.write(f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)
                answer = await reader.read()
            finally:
                writer.close()
        status, _, rest = answer.partition(b"\r\n")
        if b" 202" not in status:
            raise Wrong(f"{method} {path} was answered {status.decode()!r}: {rest[-200:]!r}.")
        return json.loads(rest.partition(b"\r\n\r\n")[2])


class Reader:
    """One reader of one task: what it has got so far, over all its visits."""

    def __init__(self, port: int, task_id: str) -> None:
        self._port = port
        self._task_id = task_id
        self._last_id = ""
        self._next = 0
        self.has_ended = False

    @property
    def received(self) -> int:
        return self._next

    async def visit(self, seconds: float) -> None:
        """Read for so long, or to the end; then break the connection off, without a word. Raises `Wrong`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            cursor = f"last-event-id: {self._last_id}\r\n" if self._last_id else ""
            head = f"GET /tasks/{self._task_id}/events HTTP/1.1\r\nhost: soak\r\naccept: text/event-stream\r\n"
            writer.write(f"{head}{cursor}\r\n".encode())
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._take(reader)
        finally:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader) -> None:
        status = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
        if b" 204" in status:
            self.has_ended = True
            return
        if b" 200" not in status:
            raise Wrong(f"Task {self._task_id} was answered {status.decode()!r}.")
        kind = event_id = ""
        buffer = b""
        while size := int(await reader.readline() or b"0", 16):
            # Chunks end where writes ended: an event is whole when its empty line is there.
            buffer += (await reader.readexactly(size + 2))[:-2]
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                if line.startswith(b"id: "):
                    event_id = line[4:].decode()
                elif line.startswith(b"event: "):
                    kind = line[7:].decode()
                elif line.startswith(b"data: "):
                    self._hear(kind, line[6:])
                elif not line and event_id:
                    self._last_id, event_id = event_id, ""

    def _hear(self, kind: str, data: bytes) -> None:
        if kind == "token":
            number: int = json.loads(data)["n"]
            if number != self._next:
                raise Wrong(f"Task {self._task_id}: number {number} came where {self._next} was due.")
            self._next += 1
        elif kind == "complete":
            self.has_ended = True
        elif kind not in {"attempt", "position"}:
            raise Wrong(f"Task {self._task_id}: {kind} {data[:200]!r}.")
