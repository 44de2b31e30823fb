"""A reader that behaves as an EventSource: it comes back with its cursor until it is told 204, and keeps everything.

Invariant: nothing is filtered and nothing repaired, so what the product sends twice is seen twice. `assert_whole` is
the oracle: a task's events, each once and in order, from `attempt` to the terminal event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
from httpx_sse import EventSource

from tests.support.http import http_client
from tests.support.waiting import wait_until

TERMINAL = {"complete", "error", "cancelled"}
#: Events that are told in band and are not in the log.
UNNUMBERED = {"position", "gap", "stalled", "heartbeat", "open"}
#: An EventSource waits for as long as it is told; a test that is never told waits a little.
_UNTOLD_RETRY_SECONDS = 0.2


class Received(NamedTuple):
    id: str
    type: str
    data: Any

    @property
    def generation(self) -> int:
        return int(self.id.rpartition(":")[2].partition("-")[0])

    @property
    def sequence(self) -> int:
        return int(self.id.rpartition("-")[2])


@dataclass
class Reader:
    """Follows one path. `follow` returns when it is told that there is nothing to come back for: 204 or 4xx."""

    url: str
    path: str
    #: Drop the connection after so long, again and again; None never.
    drop_after: float | None = None
    #: Do not wait for `retry:`, for readers that must be quick.
    hurries: bool = False
    events: list[Received] = field(default_factory=list[Received])
    #: Status of each answer; 0 for none.
    statuses: list[int] = field(default_factory=list[int])
    #: Why there was none, or why a body ended.
    failures: list[str] = field(default_factory=list[str])
    cursor: str = ""
    _retry_seconds: float = _UNTOLD_RETRY_SECONDS

    async def follow(self, *, timeout: float = 120) -> None:
        async with asyncio.timeout(timeout):
            while await self._connect():  # noqa: ASYNC110 (it waits for a time, not for an event)
                await asyncio.sleep(0.001 if self.hurries else self._retry_seconds)

    async def has(self, count: int, *, timeout: float = 60) -> None:
        """Wait for so many events of the log."""
        await wait_until(
            lambda: len(self.numbered) >= count, description=f"{count} events of {self.path}", timeout=timeout
        )

    async def has_type(self, type: str, *, timeout: float = 60) -> None:
        await wait_until(lambda: type in self.types, description=f"{type!r} on {self.path}", timeout=timeout)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def numbered(self) -> list[Received]:
        """The events that are in the log."""
        return [event for event in self.events if event.type not in UNNUMBERED]

    async def _connect(self) -> bool:
        """Read one response to its end; False if there is no reason to come back."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": self.cursor} if self.cursor else {})
        status = 0
        try:
            async with (
                http_client(self.url, timeout=httpx.Timeout(30, read=60)) as http,
                http.stream("GET", self.path, headers=headers) as response,
            ):
                status = response.status_code
                if status == 200:
                    with suppress(TimeoutError):
                        await self._read(response)
        except httpx.HTTPError as failure:
            self.failures.append(f"{status}: {failure!r}")
        self.statuses.append(status)
        return status in {0, 200}

    async def _read(self, response: httpx.Response) -> None:
        deadline = None if self.drop_after is None else asyncio.get_running_loop().time() + self.drop_after
        async with asyncio.timeout_at(deadline):
            async for event in EventSource(response).aiter_sse():
                if event.retry is not None:
                    self._retry_seconds = event.retry / 1000
                if not event.data:
                    continue  # a comment or a reconnection time: httpx-sse gives these too
                self.cursor = event.id or self.cursor
                self.events.append(Received(event.id, event.event, json.loads(event.data)))


@asynccontextmanager
async def following(reader: Reader, *, timeout: float = 120) -> AsyncGenerator[asyncio.Task[None]]:
    """Follow beside the test; awaiting what is yielded waits for the end of the stream."""
    task = asyncio.create_task(reader.follow(timeout=timeout), name=f"follow {reader.path}")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def assert_whole(events: Sequence[Received], *, emitted: int | None = None, ending: str = "complete") -> None:
    """Every event of one run once and in order: `attempt`, what the task emitted (so many), the terminal event."""
    assert not [event for event in events if event.type in {"gap", "stalled"}], _brief(events)
    numbered = [event for event in events if event.type not in UNNUMBERED]
    assert numbered, "Nothing was received."
    assert {event.generation for event in numbered} == {numbered[0].generation}, _brief(events)
    assert [event.sequence for event in numbered] == list(range(len(numbered))), _brief(events)
    assert numbered[0].type == "attempt", _brief(events)
    assert [event.type for event in numbered if event.type in TERMINAL] == [ending], _brief(events)
    assert numbered[-1].type == ending, _brief(events)
    if emitted is not None:
        assert len(numbered) == emitted + 2, f"{len(numbered)} events, of which 2 are ours; {emitted} were emitted."


def received(found: Sequence[Mapping[str, Any]]) -> list[Received]:
    """What a browser collected, as events."""
    return [Received(event["id"] or "", event["type"], event["data"]) for event in found]


def _brief(events: Sequence[Received]) -> str:
    return "\n".join(f"{event.id} {event.type}" for event in events[-200:])
