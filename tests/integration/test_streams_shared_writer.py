"""The writer of a shared stream on a real server: lost replies, rivals, a Redis that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from server.streams.bulk import open_bulk
from server.streams.calls import Reply
from server.streams.connections import connect, execute
from server.streams.errors import LogUnavailable, StreamClosed
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lease import boot_seconds
from server.streams.shared_writer import SharedWriter
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import LIFETIMES, Hand, drafts
from tests.support.redis_server import RedisServer

#: More than the writer holds unsent before its callers wait.
_ENOUGH = 4000


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return boot_seconds() + self.ahead


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as found:
        yield found


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer(keeps_data=True) as server:
        yield server


@asynccontextmanager
async def writing(
    url: str, *, count: int = 1, patience: float = 20.0, clock: Clock | None = None
) -> AsyncGenerator[list[SharedWriter]]:
    """Writers of one stream on one lane."""
    client = connect(url, name="lane")
    lane = Lane(partial(open_bulk, client))
    found = [
        SharedWriter(
            lane,
            Keys(),
            "chat",
            lifetimes=LIFETIMES,
            max_events=0,
            patience_seconds=patience,
            clock=clock or Clock(),
        )
        for _ in range(count)
    ]
    yield found
    for each in found:
        each.close()
    assert lane.unsent_bytes == 0
    await lane.aclose()
    await client.aclose()


async def emit(writer: SharedWriter, *datas: object) -> None:
    for data in datas:
        await writer.emit(Draft("t", str(data)))


async def stored(hand: Hand) -> list[str]:
    return [event.data for event in await hand.log("chat")]


async def test_events_are_stored_in_the_order_of_emit_without_holes_and_their_last_id_is_told(
    redis_url: str, hand: Hand
):
    async with writing(redis_url) as [writer]:
        await emit(writer, *range(2500))
        await writer.flush()
        events = await hand.log("chat")
        assert writer.last_id == events[-1].id
    assert [event.data for event in events] == [str(number) for number in range(2500)]
    assert [event.id.sequence for event in events] == list(range(2500))


async def test_writers_of_one_stream_share_it_and_each_keeps_its_order(redis_url: str, hand: Hand):
    async with writing(redis_url, count=3) as found:
        await asyncio.gather(
            *[emit(writer, *[f"{name}{n}" for n in range(500)]) for name, writer in zip("abc", found, strict=True)]
        )
        await asyncio.gather(*[writer.flush() for writer in found])
    events = await hand.log("chat")
    assert [event.id.sequence for event in events] == list(range(1500))
    for name in "abc":
        assert [event.data for event in events if event.data[0] == name] == [f"{name}{n}" for n in range(500)]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
async def test_a_batch_whose_fate_is_unknown_is_stored_once_and_what_came_meanwhile_goes_behind_it(
    hand: Hand, proxy: FaultProxy, fault: str, times: int
):
    async with writing(proxy.url) as [writer]:
        happened = [
            getattr(proxy, fault)("publish", meanwhile=lambda number=number: emit(writer, f"later {number}"))
            for number in range(times)
        ]
        await emit(writer, 1, 2)
        await writer.flush()
        for each in happened:
            await each.wait()
        await writer.flush()
    assert await stored(hand) == ["1", "2", *[f"later {number}" for number in range(times)]]


async def test_a_batch_that_comes_late_from_a_connection_given_up_stores_nothing(hand: Hand):
    first = await hand.publish("chat", drafts("a"), token="w", number=1)
    second = await hand.publish("chat", drafts("b"), token="w", number=2)
    assert (first.outcome, second.outcome) == ("stored", "stored")
    assert (await hand.publish("chat", drafts("a"), token="w", number=1)).outcome == "repeated"
    assert await hand.publish("chat", drafts("b"), token="w", number=2) == Reply("repeated", second.id)
    assert await stored(hand) == ["a", "b"]


async def test_a_writer_leaves_one_key_in_redis_however_much_it_writes_and_that_expires(redis_url: str, hand: Hand):
    async with writing(redis_url, patience=40) as [writer]:
        for number in range(5):
            await emit(writer, number)
            await writer.flush()
        [key] = await execute(hand.client, "KEYS", hand.keys.idempotency("chat", "*"))
        assert 60_000 < await execute(hand.client, "PTTL", key) <= 100_000


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
async def test_a_stream_is_ended_once_and_nothing_can_follow(hand: Hand, proxy: FaultProxy, fault: str):
    async with writing(proxy.url) as [writer]:
        await emit(writer, 1)
        happened = getattr(proxy, fault)("publish")
        end = await writer.end(Draft("complete", "{}"))
        assert happened.is_set()
        with pytest.raises(StreamClosed, match="'chat' is closed"):
            await emit(writer, 2)
        await writer.flush()
    events = await hand.log("chat")
    assert [(event.type, event.is_terminal) for event in events] == [("t", False), ("complete", True)]
    assert end == events[-1].id


async def test_a_writer_whose_stream_was_ended_by_another_hears_it_and_loses_its_events_aloud(
    redis_url: str, hand: Hand
):
    async with writing(redis_url, count=2) as [writer, other]:
        await other.end(Draft("complete", "{}"))
        await emit(writer, 1)
        for _ in range(2):
            with pytest.raises(StreamClosed, match="'chat' is closed"):
                await writer.flush()
    assert await stored(hand) == ["{}"]


async def test_a_closed_handle_says_so(redis_url: str):
    async with writing(redis_url) as [writer]:
        writer.close()
        with pytest.raises(StreamClosed, match="handle to the stream 'chat' is closed"):
            await emit(writer, 1)


async def test_a_redis_that_is_killed_and_comes_back_has_every_event_once(own_server: RedisServer, keys: Keys):
    async with writing(own_server.url) as [writer]:
        await emit(writer, *range(10))
        await writer.flush()
        own_server.kill()
        await emit(writer, *range(10, 1200))
        own_server.start()
        await writer.flush()
    client = connect(own_server.url, name="own")
    assert await stored(Hand(client, keys)) == [str(number) for number in range(1200)]
    await client.aclose()


async def test_callers_wait_while_redis_is_away_and_much_is_unsent(hand: Hand, proxy: FaultProxy):
    async with writing(proxy.url) as [writer]:
        proxy.go_down()
        await emit(writer, *range(_ENOUGH))
        waiting = asyncio.create_task(emit(writer, "one more"))
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        proxy.come_back()
        await waiting
        await writer.flush()
    assert await stored(hand) == [*[str(number) for number in range(_ENOUGH)], "one more"]


async def test_events_are_given_up_aloud_when_redis_stays_away_for_longer_than_the_patience(
    hand: Hand, proxy: FaultProxy
):
    async with writing(proxy.url, patience=0.2) as [writer]:
        proxy.go_down()
        await emit(writer, *range(_ENOUGH))
        for call in (emit(writer, "one more"), writer.flush(), emit(writer, "later")):
            with pytest.raises(LogUnavailable, match=r"4000 event\(s\) of the stream 'chat' are given up: for 0.2 s"):
                await asyncio.wait_for(call, 30)
        proxy.come_back()
    assert await stored(hand) == []


async def test_a_redis_without_memory_is_waited_for_and_the_reason_is_told_when_patience_ends(
    own_server: RedisServer, keys: Keys
):
    client = connect(own_server.url, name="own")
    async with writing(own_server.url) as [writer], writing(own_server.url, patience=0.3) as [hasty]:
        await execute(client, "CONFIG", "SET", "maxmemory", "1")
        await emit(writer, 1)
        await emit(hasty, 2)
        with pytest.raises(LogUnavailable, match="Redis refused: OOM"):
            await hasty.flush()
        await execute(client, "CONFIG", "SET", "maxmemory", "0")
        await writer.flush()
    assert await stored(Hand(client, keys)) == ["1"]
    await client.aclose()


async def test_a_batch_is_not_sent_again_once_redis_may_have_forgotten_that_it_is_stored(hand: Hand, proxy: FaultProxy):
    clock = Clock()

    async def meanwhile() -> None:
        clock.ahead = 21.0
        [key] = await execute(hand.client, "KEYS", hand.keys.idempotency("chat", "*"))
        await hand.lose(key)

    async with writing(proxy.url, patience=20, clock=clock) as [writer]:
        proxy.lose_reply("publish", meanwhile=meanwhile)
        await emit(writer, 1)
        with pytest.raises(LogUnavailable, match="Whether the first 1 of them are stored is unknown"):
            await writer.flush()
    assert await stored(hand) == ["1"]


async def test_patience_begins_anew_with_the_first_event_after_a_pause(hand: Hand, proxy: FaultProxy):
    async with writing(proxy.url) as [writer]:
        await emit(writer, 1)
        await writer.flush()
        writer._quiet_since -= 1000  # a long pause, in which the timer stood
        proxy.lose_request("publish")
        await emit(writer, 2)
        writer._look_at_patience()
        await writer.flush()
    assert await stored(hand) == ["1", "2"]


async def test_a_loss_of_what_the_writer_was_told_of_is_marked_for_readers(redis_url: str, hand: Hand):
    async with writing(redis_url) as [writer]:
        await emit(writer, 1)
        await writer.flush()
        known = writer.last_id
        await hand.lose(hand.keys.log("chat"))
        await emit(writer, 2)
        await writer.flush()
    [event] = await hand.log("chat")
    assert isinstance(known, EventId)
    assert (event.data, event.previous) == ("2", known)
