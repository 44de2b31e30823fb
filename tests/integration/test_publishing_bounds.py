"""What a stream written by `open_stream` may take of Redis, and when its events count as stored."""

from __future__ import annotations

import asyncio

import pytest

from server.streams.connections import AsyncClient, execute
from server.streams.keys import Keys
from tests.support.log_hand import Hand
from tests.support.replicated import Replicated
from tests.support.waiting import wait_until
from workers import InvalidInput, LogUnavailable, open_stream, open_stream_sync

BUDGET = 1 << 20
#: A shared log may double, once in nine million measurements exceed even that; and one batch comes on top.
MOST = 2 * BUDGET + (1 << 20)
EVENTS, DATA = 1200, "x" * 5000


async def kept(client: AsyncClient) -> int:
    return int(await execute(client, "MEMORY", "USAGE", Keys().log("chat.42"), "SAMPLES", "0"))


async def test_a_stream_stays_within_its_bytes_and_keeps_its_newest_events(hand: Hand, redis_url: str):
    async with open_stream(redis_url, "chat.42", max_events=0, max_stream_bytes=BUDGET) as stream:
        for _ in range(EVENTS):
            await stream.emit("n", DATA)
    assert BUDGET / 4 < await kept(hand.client) < MOST
    sequences = [event.id.sequence for event in await hand.log("chat.42")]
    assert sequences == list(range(sequences[0], EVENTS))


async def test_so_does_one_that_a_thread_writes(hand: Hand, redis_url: str):
    def write() -> None:
        with open_stream_sync(redis_url, "chat.42", max_events=0, max_stream_bytes=BUDGET) as stream:
            for _ in range(EVENTS):
                stream.emit("n", DATA)

    await asyncio.to_thread(write)
    assert BUDGET / 4 < await kept(hand.client) < MOST


async def test_what_was_flushed_has_a_replica_if_that_is_asked_for_and_other_streams_do_not_wait(pair: Replicated):
    async with (
        open_stream(pair.url, "safe", durability="replicated") as safe,
        open_stream(pair.url, "fast") as fast,
    ):
        await safe.emit("n", 1)
        await safe.flush()
        assert pair.replica.command("XLEN", Keys().log("safe")) == 1
        pair.replica.pause()
        await safe.emit("n", 2)
        flushing = asyncio.ensure_future(safe.flush())
        await wait_until(lambda: pair.master.command("XLEN", Keys().log("safe")) == 2, description="it is written")
        await fast.emit("n", 1)
        await fast.flush()
        assert not flushing.done()
        pair.replica.resume()
        await asyncio.wait_for(flushing, 10)
        assert pair.replica.command("XLEN", Keys().log("safe")) == 2


async def test_events_that_no_replica_takes_are_given_up_after_the_patience_and_it_is_said_why(pair: Replicated):
    pair.replica.pause()
    with pytest.raises(LogUnavailable, match=r"1 event\(s\) of the stream 'safe' are given up: .* No replica"):
        async with open_stream(pair.url, "safe", durability="replicated", patience_seconds=1.5) as stream:
            await stream.emit("n", 1)
    pair.replica.resume()


def test_a_durability_that_is_none_is_refused_at_once():
    says = "durability is 'slow'. Use one of 'fast', 'replicated', 'fsync'"
    with pytest.raises(InvalidInput, match=says):
        open_stream("redis://localhost", "chat.42", durability="slow")  # pyright: ignore[reportArgumentType]
