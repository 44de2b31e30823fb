"""Several callers of one writer at once: order, bounds and checkpoints among their events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from server.streams.connections import AsyncClient, connect
from server.streams.errors import Fenced
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.writer import StreamWriter
from tests.support.fault_proxy import FaultProxy
from tests.support.log_hand import Hand

#: More than the writer holds unsent before its callers wait.
_ENOUGH = 4000


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as found:
        yield found


@pytest.fixture
async def faulty(proxy: FaultProxy, keys: Keys) -> AsyncIterator[Hand]:
    """A hand whose connection goes through the proxy."""
    client: AsyncClient = connect(proxy.url, name="faulty")
    yield Hand(client, keys)
    await client.aclose()


async def fill(writer: StreamWriter) -> None:
    for _ in range(_ENOUGH):
        await writer.emit(Draft("n", "{}"))


async def begin(call: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    """Start a call and let it come to where it waits."""
    begun = asyncio.create_task(call)
    await asyncio.wait({begun}, timeout=0.02)
    return begun


async def test_whoever_waits_for_room_is_stored_in_the_order_of_the_calls_a_checkpoint_too(
    hand: Hand, faulty: Hand, proxy: FaultProxy
):
    async with faulty.writer(await faulty.running()) as writer:
        proxy.go_down()
        await fill(writer)
        waiting = [
            await begin(writer.emit(Draft("first", "{}"))),
            await begin(writer.checkpoint("1")),
            await begin(writer.emit(Draft("second", "{}"))),
        ]
        assert writer._outbox.unsent == _ENOUGH
        proxy.come_back()
        await asyncio.gather(*waiting)
        await writer.flush()
    events = await hand.task_log()
    assert [event.type for event in events][_ENOUGH + 1 :] == ["first", "checkpoint", "second"]
    assert (await hand.fields())["resume_from"] == str(events[-2].id)


async def test_a_checkpoint_is_stored_although_others_never_stop_emitting(hand: Hand):
    is_over = False

    async def chatter() -> None:
        while not is_over:
            await writer.emit(Draft("n", "{}"))

    async with hand.writer(await hand.running()) as writer:
        others = await begin(chatter())
        try:
            found = await asyncio.wait_for(writer.checkpoint("1"), 30)
            assert (await hand.fields())["resume_from"] == str(found)
        finally:
            is_over = True
            await others


async def test_checkpoints_with_one_state_are_both_stored_with_more_than_a_batch_between(
    hand: Hand, faulty: Hand, proxy: FaultProxy
):
    async with faulty.writer(await faulty.running()) as writer:
        others: list[asyncio.Task[object]] = []

        async def meanwhile() -> None:
            for _ in range(1500):
                await writer.emit(Draft("n", "{}"))
            others.append(await begin(writer.checkpoint("1")))

        proxy.hold_reply("append", meanwhile)
        await writer.checkpoint("1")
        await asyncio.gather(*others)
    events = await hand.task_log()
    assert (await hand.fields())["resume_from"] == str(events[-1].id)
    assert [event.type for event in events if event.type != "n"] == ["attempt", "checkpoint", "checkpoint"]


@pytest.mark.parametrize("fault", ["lose_reply", "lose_request"])
async def test_a_checkpoint_and_events_around_it_survive_a_lost_append_once_and_in_order(
    hand: Hand, faulty: Hand, proxy: FaultProxy, fault: str
):
    async with faulty.writer(await faulty.running()) as writer:
        await writer.emit(Draft("before", "{}"))
        happened = getattr(proxy, fault)("append", meanwhile=lambda: writer.emit(Draft("after", "{}")))
        found = await writer.checkpoint("1")
        await writer.flush()
        assert happened.is_set()
    events = await hand.task_log()
    assert [event.type for event in events] == ["attempt", "before", "checkpoint", "after"]
    fields = await hand.fields()
    assert (fields["resume_from"], fields["checkpoint"]) == (str(found), "1")


async def test_of_callers_in_line_for_room_each_hears_that_the_writer_is_fenced(
    hand: Hand, faulty: Hand, proxy: FaultProxy
):
    async with faulty.writer(await faulty.running()) as writer:
        proxy.go_down()
        await fill(writer)
        waiting = [await begin(writer.emit(Draft("n", "{}"))), await begin(writer.checkpoint("1"))]
        writer.fence("the test says so")
        for each in waiting:
            with pytest.raises(Fenced, match="the test says so"):
                await asyncio.wait_for(each, 30)
        proxy.come_back()
    assert "checkpoint" not in await hand.fields()
