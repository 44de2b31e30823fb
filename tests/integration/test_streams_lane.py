"""Many writers on one lane, on a real server: a failure hits whom it must, and every event is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from server.streams import lane_writer
from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient, connect, execute
from server.streams.errors import LogRefused, LogUnavailable
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.records import Status
from server.streams.writer import StreamWriter
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import Hand
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

#: More than the writer holds unsent before `emit` waits.
_ENOUGH = 4000


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as found:
        yield found


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def own_hand(own_server: RedisServer, keys: Keys) -> AsyncIterator[Hand]:
    """A hand at a server that the test may freeze and kill."""
    client = connect(own_server.url, name="own")
    yield Hand(client, keys)
    await client.aclose()


@asynccontextmanager
async def lane_to(url: str, *, delay_seconds: float = 0.0, patience: float = 5.0) -> AsyncGenerator[Lane]:
    client = connect(url, name="lane", socket_timeout=patience)
    lane = Lane(partial(open_bulk, client), delay_seconds=delay_seconds)
    yield lane
    await lane.aclose()
    await client.aclose()


@asynccontextmanager
async def writers(hand: Hand, count: int, lane: Lane) -> AsyncGenerator[list[StreamWriter]]:
    """Writers of the tasks t0, t1 …, which are running."""
    async with AsyncExitStack() as stack:
        records = [await hand.running(f"t{number}") for number in range(count)]
        yield [await stack.enter_async_context(hand.writer(record, lane=lane)) for record in records]


async def emit(writer: StreamWriter, *numbers: int) -> None:
    for number in numbers:
        await writer.emit(Draft("t", str(number)))


async def flush(found: list[StreamWriter]) -> None:
    await asyncio.wait_for(asyncio.gather(*[writer.flush() for writer in found]), 30)


async def logs(hand: Hand, count: int) -> list[list[tuple[int, str]]]:
    """Sequence and data of what each task emitted."""
    found = [await hand.task_log(f"t{number}") for number in range(count)]
    return [[(event.id.sequence, event.data) for event in log if event.type != "attempt"] for log in found]


def numbered(*numbers: int) -> list[tuple[int, str]]:
    return [(number, str(number)) for number in numbers]


async def calls_of(client: AsyncClient, command: str) -> int:
    """How often Redis has run a command since its statistics were reset."""
    stats: dict[str, Any] = await execute(client, "INFO", "commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def is_somebody_blocked(hand: Hand) -> bool:
    return int((await execute(hand.client, "INFO", "clients"))["blocked_clients"]) > 0


async def test_the_appends_of_many_writers_go_together_and_each_log_is_whole(hand: Hand, redis_url: str):
    async with lane_to(redis_url) as lane, writers(hand, 50, lane) as found:
        await execute(hand.client, "CONFIG", "RESETSTAT")
        for number in range(1, 21):
            for writer in found:
                await emit(writer, number)
        await flush(found)
        reads = int((await execute(hand.client, "INFO", "stats"))["total_reads_processed"])
    assert await logs(hand, 50) == [numbered(*range(1, 21))] * 50
    assert reads < 50  # far fewer than a thousand events, or than the appends of fifty writers one by one


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
@pytest.mark.parametrize("skip", [0, 3, 9])
async def test_a_connection_that_breaks_among_many_appends_costs_no_writer_an_event(
    hand: Hand, proxy: FaultProxy, fault: str, skip: int
):
    async with lane_to(proxy.url) as lane, writers(hand, 10, lane) as found:
        for writer in found:
            await emit(writer, 1)
        await flush(found)
        happened = getattr(proxy, fault)("append", skip=skip)
        for writer in found:
            await emit(writer, 2, 3)
        await flush(found)
        assert happened.is_set()
        for writer in found:
            await emit(writer, 4)
        await flush(found)
    assert await logs(hand, 10) == [numbered(1, 2, 3, 4)] * 10


async def lanes(hand: Hand) -> set[str]:
    """Ids of the connections of lanes."""
    listed: bytes = await execute(hand.client, "CLIENT", "LIST")
    found = (dict(word.split("=", 1) for word in line.split()) for line in listed.decode().splitlines())
    return {each["id"] for each in found if each["name"] == "lane"}


async def test_a_connection_killed_with_appends_under_way_is_replaced_and_each_event_stored_once(
    hand: Hand, redis_url: str
):
    before = await lanes(hand)  # those of programs that publish stay for the next stream
    async with lane_to(redis_url) as lane, writers(hand, 10, lane) as found:
        for writer in found:
            await emit(writer, 1)
        await flush(found)
        (own,) = await lanes(hand) - before
        await execute(hand.client, "CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            for writer in found:
                await emit(writer, 2)
            await wait_until(lambda: is_somebody_blocked(hand), description="the appends have reached Redis")
            assert await execute(hand.client, "CLIENT", "KILL", "ID", own) == 1
        finally:
            await execute(hand.client, "CLIENT", "UNPAUSE")
        for writer in found:
            await emit(writer, 3)
        await flush(found)
    assert await logs(hand, 10) == [numbered(1, 2, 3)] * 10


async def test_scripts_forgotten_in_mid_stream_are_sent_whole_once_for_all_writers(hand: Hand, redis_url: str):
    async with lane_to(redis_url) as lane, writers(hand, 10, lane) as found:
        for writer in found:
            await emit(writer, 1)
        await flush(found)
        await execute(hand.client, "SCRIPT", "FLUSH")
        await execute(hand.client, "CONFIG", "RESETSTAT")
        for writer in found:
            await emit(writer, 2)
        await flush(found)
        assert await calls_of(hand.client, "eval") == 1
    assert await logs(hand, 10) == [numbered(1, 2)] * 10


async def test_a_writer_whose_log_is_something_else_fails_alone_and_says_why(
    hand: Hand, redis_url: str, caplog: pytest.LogCaptureFixture
):
    log = hand.keys.log("tasks.t3")
    refusals: list[LogRefused] = []
    async with lane_to(redis_url) as lane, writers(hand, 10, lane) as found:
        found[3].on_refusal = refusals.append
        await execute(hand.client, "SET", log, "spoilt", "PX", 60_000)
        for writer in found:
            await emit(writer, 1)
        await flush([writer for number, writer in enumerate(found) if number != 3])
        with pytest.raises(LogRefused, match="WRONGTYPE"):
            await found[3].flush()
        with pytest.raises(LogRefused, match="remove that key"):
            await emit(found[3], 2)
    assert [each.code for each in refusals] == ["WRONGTYPE"]
    await hand.lose(log)
    assert await logs(hand, 10) == [*[numbered(1)] * 3, [], *[numbered(1)] * 6]
    assert caplog.text.count("The writer of task t3 gives up") == 1
    assert "Appends wait" not in caplog.text


async def test_a_redis_without_memory_refuses_every_writer_and_all_go_on_when_there_is_some(
    own_hand: Hand, own_server: RedisServer
):
    async with lane_to(own_server.url) as lane, writers(own_hand, 10, lane) as found:
        await execute(own_hand.client, "CONFIG", "SET", "maxmemory", "1")
        for writer in found:
            await emit(writer, 1)
        refused = asyncio.gather(*[writer.flush() for writer in found])
        done, _ = await asyncio.wait({refused}, timeout=0.2)
        assert not done
        await execute(own_hand.client, "CONFIG", "SET", "maxmemory", "0")
        await asyncio.wait_for(refused, 30)
    assert await logs(own_hand, 10) == [numbered(1)] * 10


async def test_a_frozen_redis_is_given_up_and_its_events_are_stored_once_when_it_wakes(
    own_hand: Hand, own_server: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with lane_to(own_server.url, patience=0.2) as lane, writers(own_hand, 5, lane) as found:
        for writer in found:
            await emit(writer, 1)
        await flush(found)
        own_server.pause()
        for writer in found:
            await emit(writer, 2)
        await wait_until(lambda: "connection was lost" in caplog.text, description="the lane gives the connection up")
        for writer in found:
            await emit(writer, 3)
        own_server.resume()
        await flush(found)
    assert await logs(own_hand, 5) == [numbered(1, 2, 3)] * 5


async def test_a_lane_that_finds_nobody_says_so_once_and_raises_nothing(
    own_hand: Hand, own_server: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with lane_to(own_server.url) as lane, writers(own_hand, 5, lane) as found:
        own_server.kill()
        for writer in found:
            await emit(writer, 1)
        await wait_until(lambda: "Appends wait" in caplog.text, description="the lane says that it waits")
        own_server.start()
        await flush(found)
    assert await logs(own_hand, 5) == [numbered(1)] * 5
    assert caplog.text.count("Appends wait") == 1


async def test_dialling_a_redis_that_refuses_the_user_is_an_error_of_the_log(own_server: RedisServer):
    client = connect(own_server.url.replace("unix://", "unix://nobody:wrong@"), name="lane")
    with pytest.raises(LogUnavailable, match="username-password"):
        await open_bulk(client)
    await client.aclose()


# Bounded memory, and room for others.


async def test_what_all_writers_hold_is_bounded_together_while_redis_is_away(
    own_hand: Hand, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lane_writer, "MAX_UNSENT_BYTES", 10_000)
    async with lane_to(own_server.url, patience=0.5) as lane, writers(own_hand, 20, lane) as found:
        own_server.kill()
        tasks = [asyncio.create_task(emit(writer, *[10_000_000] * 500)) for writer in found]  # 8 bytes each
        await wait_until(lambda: lane.unsent_bytes >= 10_000, description="the lane is full")
        done, _ = await asyncio.wait(tasks, timeout=0.2)
        assert not done
        assert lane.unsent_bytes <= 10_000 + 20 * 8
        own_server.start()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        await flush(found)
        assert lane.unsent_bytes == 0
    assert [len(log) for log in await logs(own_hand, 20)] == [500] * 20


async def test_a_writer_that_goes_takes_what_it_held_off_the_lane(own_hand: Hand, own_server: RedisServer):
    async with lane_to(own_server.url) as lane:
        async with writers(own_hand, 2, lane) as found:
            own_server.kill()
            for writer in found:
                await emit(writer, 1, 2, 3)
            assert lane.unsent_bytes == 6
        assert lane.unsent_bytes == 0


async def test_a_task_that_only_emits_lets_others_run(hand: Hand):
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with hand.writer(await hand.running()) as writer:
        counting = asyncio.create_task(count_turns())
        await emit(writer, *range(_ENOUGH // 2))  # there is room for all of them
        counting.cancel()
    assert turns >= _ENOUGH // 20


# The delay.


async def test_with_a_delay_events_of_many_turns_make_one_append(hand: Hand, redis_url: str):
    async with lane_to(redis_url, delay_seconds=600) as lane, writers(hand, 3, lane) as found:
        for writer in found:
            await emit(writer, 1)
        await flush(found)  # so that Redis knows the script
        await execute(hand.client, "CONFIG", "RESETSTAT")
        for number in range(2, 31):
            for writer in found:
                await emit(writer, number)
            await asyncio.sleep(0)
        await flush(found)  # waits for no delay
        assert await calls_of(hand.client, "evalsha") == 3
    assert await logs(hand, 3) == [numbered(*range(1, 31))] * 3


async def test_a_full_writer_and_a_finishing_one_wait_for_no_delay(hand: Hand, redis_url: str):
    async with lane_to(redis_url, delay_seconds=600) as lane, writers(hand, 2, lane) as (full, ending):
        await asyncio.wait_for(emit(full, *range(1, _ENOUGH + 2)), 30)
        await full.flush()
        await emit(ending, 1)
        await asyncio.wait_for(ending.finish(Status.COMPLETED, "{}"), 30)
        await asyncio.wait_for(ending.verify(), 30)
    assert await logs(hand, 2) == [numbered(*range(1, _ENOUGH + 2)), [*numbered(1), (2, "{}")]]
