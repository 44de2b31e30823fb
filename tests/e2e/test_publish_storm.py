"""Twenty publishers on one stream, requests cut off and repeated, the server killed three times: each event once.

A small storm in the suite. REPRISE_STORM_BATCHES=500 is the whole one: 500 batches of each publisher. Its figures are
printed (`-s`).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.streams.ids import EventId, parse_event_id
from tests.e2e.product import Product, Server, product
from tests.e2e.reader import Reader, Received, following
from tests.support.http import http_client
from tests.support.waiting import wait_until

BATCHES = int(os.environ.get("REPRISE_STORM_BATCHES", "25"))
PUBLISHERS = 20
KILLS = 3
#: Whole seconds of a storm that makes no progress are a failure, however long it may be.
TIMEOUT_SECONDS = 60 + BATCHES
STREAM = "storm"
SETTINGS = {"REPRISE_MAX_STREAM_EVENTS": "1000000"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT_SECONDS + 60)]


@dataclass
class Storm:
    """What was published, and what the publishers were told."""

    url: str
    random: random.Random
    #: The events of each request, and the ids that it was answered, by its key.
    batches: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    answers: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    #: How many requests ended how: a status, cut off by the publisher, broken.
    ends: Counter[str] = field(default_factory=Counter[str])
    #: Those of which the second answer was compared with the first.
    repeated: int = 0

    async def publish(self, publisher: int) -> None:
        async with http_client(self.url) as http:
            for batch in range(BATCHES):
                key = f"{publisher}.{batch}"
                self.batches[key] = [f"{key}.{number}" for number in range(self.random.randint(1, 4))]
                chance = self.random.random()
                if chance < 1 / 8:
                    await self._cut_off(http, key)
                self.answers[key] = await self._until_answered(http, key)
                if chance > 7 / 8:
                    assert await self._until_answered(http, key) == self.answers[key]
                    self.repeated += 1

    async def _cut_off(self, http: httpx.AsyncClient, key: str) -> None:
        """Send it, and go away before the answer or just behind it."""
        with suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(self.random.uniform(0, 0.02)):
                await self._send(http, key)
        self.ends["cut off"] += 1

    async def _until_answered(self, http: httpx.AsyncClient, key: str) -> list[str]:
        while True:
            try:
                response = await self._send(http, key)
            except httpx.HTTPError:
                self.ends["broken"] += 1
                await asyncio.sleep(0.05)
                continue
            self.ends[str(response.status_code)] += 1
            if response.status_code == 201:
                return response.json()["ids"]
            assert response.status_code == 503, response.text

    async def _send(self, http: httpx.AsyncClient, key: str) -> httpx.Response:
        body = [{"type": "n", "data": {"text": text}} for text in self.batches[key]]
        return await http.post(f"/streams/{STREAM}/events", json=body, headers={"idempotency-key": key})


async def test_every_event_of_a_storm_is_stored_once_although_requests_break_and_the_server_dies(
    tmp_path: Path,
) -> None:
    async with product(tmp_path, workers=0, settings=SETTINGS) as found:
        storm = Storm(found.url, random.Random(7))
        one, other = (Reader(found.url, f"/streams/{STREAM}/events") for _ in range(2))
        began = asyncio.get_running_loop().time()
        async with following(one, timeout=TIMEOUT_SECONDS), following(other, timeout=TIMEOUT_SECONDS):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                async with asyncio.TaskGroup() as group:
                    for publisher in range(PUBLISHERS):
                        group.create_task(storm.publish(publisher), name=f"publisher {publisher}")
                    group.create_task(kill_in_between(found.servers[0], storm), name="kills")
                took = asyncio.get_running_loop().time() - began
                end = await close(found)
                for reader in (one, other):
                    await reader.has_type("complete", timeout=60)
        assert_each_once(storm, one.numbered, end)
        assert one.numbered == other.numbered
        assert set(one.types) | set(other.types) <= {"position", "n", "complete"}
        assert await history(found) == [(event.id, event.type) for event in one.numbered]
    show(storm, len(one.numbered) - 1, took)


async def kill_in_between(server: Server, storm: Storm) -> None:
    """Kill the server each time another quarter of all is answered."""
    for number in range(1, KILLS + 1):
        share = number * PUBLISHERS * BATCHES // (KILLS + 1)
        await wait_until(lambda: len(storm.answers) >= share, description=f"{share} answers", timeout=TIMEOUT_SECONDS)  # noqa: B023 (waited for here)
        await server.kill()
        await server.start()
        await server.ready()


async def close(found: Product) -> str:
    async with http_client(found.url) as http:
        return (await http.post(f"/streams/{STREAM}/close")).raise_for_status().json()["id"]


async def history(found: Product) -> list[tuple[str, str]]:
    """Ids and types of everything, by pages."""
    events: list[tuple[str, str]] = []
    path = f"/streams/{STREAM}/history?limit=1000"
    async with http_client(found.url) as http:
        while path:
            response = (await http.get(path)).raise_for_status()
            page: dict[str, Any] = response.json()
            assert page["gap"] is None
            events += [(event["id"], event["type"]) for event in page["events"]]
            path = response.links.get("next", {}).get("url", "")
    return events


def assert_each_once(storm: Storm, received: list[Received], end: str) -> None:
    """Exactly what was published, each once, under the ids that its publisher was told, without a hole."""
    ids = [parse_event_id(event.id) for event in received]
    assert ids[0] == EventId(ids[0].generation, 0)
    assert all(later.continues(earlier) for earlier, later in pairwise(ids))
    *events, terminal = received
    assert terminal.id == end
    at = {event.data["text"]: event.id for event in events}
    assert len(at) == len(events), "an event was stored twice"
    assert at == {
        text: event_id
        for key, texts in storm.batches.items()
        for text, event_id in zip(texts, storm.answers[key], strict=True)
    }
    for key, told in storm.answers.items():
        first = parse_event_id(told[0])
        assert [parse_event_id(each).sequence - first.sequence for each in told] == list(range(len(told))), key


def show(storm: Storm, events: int, seconds: float) -> None:
    """The figures, as text."""
    lines = [
        f"\n{PUBLISHERS} publishers x {BATCHES} batches in {seconds:.1f} s, the server killed {KILLS} times",
        f"{events} events, each once, ids contiguous, the same for two readers",
        f"requests by their end: {dict(storm.ends)}; {storm.repeated} repeated after an answer",
    ]
    print("\n".join(lines))  # noqa: T201 - the figures are what the long one is run for
