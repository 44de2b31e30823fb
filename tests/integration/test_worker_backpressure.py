"""Task functions that emit faster than Redis takes, or than they have to be heard: they wait, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from server.streams.connections import connect
from server.streams.keys import Keys
from server.streams.writer import StreamWriter
from tests.support.log_hand import Hand
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.working import Bench, working
from workers.context import Context, StopSign, SyncContext

#: As many events as a writer holds unsent, and a few more.
_ROOM, _COUNT = 4000, 4010

Tally = list[int]


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def own_hand(own_server: RedisServer, keys: Keys) -> AsyncIterator[Hand]:
    client = connect(own_server.url, name="own", socket_timeout=60)
    yield Hand(client, keys)
    await client.aclose()


def context(writer: StreamWriter) -> Context:
    return Context(
        task_id="a",
        attempt=1,
        fence=writer.generation,
        writer=writer,
        max_event_bytes=1 << 20,
        restored=None,
        stop=StopSign(),
        on_progress=lambda _: None,
    )


async def in_a_coroutine(writer: StreamWriter, tally: Tally) -> None:
    ctx = context(writer)
    for number in range(_COUNT):
        await ctx.emit("t", number)
        tally.append(number)


async def in_a_thread(writer: StreamWriter, tally: Tally) -> None:
    ctx = SyncContext(context(writer), asyncio.get_running_loop())

    def work() -> None:
        for number in range(_COUNT):
            ctx.emit("t", number)
            tally.append(number)

    await asyncio.to_thread(work)


@pytest.mark.parametrize("function", [in_a_coroutine, in_a_thread])
async def test_a_function_that_outruns_a_frozen_redis_waits_and_goes_on_afterwards(
    own_hand: Hand, own_server: RedisServer, function: Callable[[StreamWriter, Tally], Awaitable[None]]
):
    tally: Tally = []
    async with own_hand.writer(await own_hand.running()) as writer:
        own_server.pause()
        running = asyncio.ensure_future(function(writer, tally))
        await wait_until(lambda: len(tally) == _ROOM, description="the writer is full", timeout=60)
        done, _ = await asyncio.wait({running}, timeout=0.2)
        assert not done
        assert len(tally) == _ROOM
        own_server.resume()
        await asyncio.wait_for(running, 60)
        await writer.flush()
    assert [event.data for event in (await own_hand.task_log())[1:]] == [str(number) for number in range(_COUNT)]


async def test_with_a_delay_a_workers_events_make_few_appends_and_its_ends_do_not_wait(redis_url: str, bench: Bench):
    async with working(redis_url, "tests.tasks.emitters", append_delay_ms=1000):
        await bench.client.execute_command("CONFIG", "RESETSTAT")
        task_ids = [await bench.create("emit_many", count=100, interval_ms=1) for _ in range(3)]
        for task_id in task_ids:
            await bench.end(task_id)
        stats = await bench.client.execute_command("INFO", "commandstats")
        for task_id in task_ids:
            assert await bench.datas(task_id, "number") == [{"number": number} for number in range(100)]
    # Each append rings once; besides rings only what is told of a task's state.
    assert stats["cmdstat_spublish"]["calls"] < 60
