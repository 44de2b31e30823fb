"""With REPRISE_DURABILITY no answer about an open stream comes before what it says is safe, a repeated one neither."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest

from server.streams import durability as durability_module
from server.streams import log as log_module
from server.streams.connections import connect, execute
from server.streams.durability import Durability
from server.streams.errors import LogUnavailable
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.open_streams import OpenStreams
from server.streams.retention import Retention
from tests.support.log_hand import LIFETIMES, drafts
from tests.support.replicated import Replicated

END = Draft("complete", '{"result":null}')


@pytest.fixture
def pair() -> Iterator[Replicated]:
    with Replicated() as found:
        yield found


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that is in vain takes less time, and is made once."""
    monkeypatch.setattr(durability_module, "WAIT_MS", 20)
    monkeypatch.setattr(log_module, "_TRIES", 1)


@asynccontextmanager
async def on_a_new_connection(url: str, keys: Keys) -> AsyncGenerator[OpenStreams]:
    """As another server has it: to wait here is to wait for what was written here."""
    client, replicated = connect(url, name="test"), Durability.REPLICATED
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=100, durability=replicated)
    try:
        yield OpenStreams(client, keys, log, lifetimes=LIFETIMES, max_events=100, max_bytes=0, durability=replicated)
    finally:
        await client.aclose()


async def take(url: str, keys: Keys, step: str) -> object:
    async with on_a_new_connection(url, keys) as streams:
        if step == "publish":
            return await streams.publish("chat", drafts("a"), token="once")
        if step == "close":
            return await streams.close("chat", END)
        if step == "create":
            return (await streams.create("chat", Retention(5))).retention
        return await streams.delete("chat")


@pytest.mark.parametrize("step", ["publish", "close", "create", "delete"])
async def test_a_step_that_no_replica_has_is_not_answered_and_neither_is_its_repetition_on_another_connection(
    pair: Replicated, keys: Keys, step: str
) -> None:
    if step in {"close", "delete"}:
        await take(pair.url, keys, "publish")
    pair.replica.pause()
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="REPRISE_DURABILITY=replicated"):
            await take(pair.url, keys, step)
    pair.replica.resume()
    first = await take(pair.url, keys, step)
    assert await take(pair.url, keys, step) == first


async def test_an_end_whose_log_has_expired_is_not_answered_before_a_replica_has_it(
    pair: Replicated, keys: Keys
) -> None:
    await take(pair.url, keys, "create")
    end = await take(pair.url, keys, "close")
    async with on_a_new_connection(pair.url, keys) as streams:
        await execute(streams._client, "PEXPIRE", keys.log("chat"), 0)
    pair.replica.pause()
    with pytest.raises(LogUnavailable, match="REPRISE_DURABILITY=replicated"):
        await take(pair.url, keys, "close")
    pair.replica.resume()
    assert await take(pair.url, keys, "close") == end
