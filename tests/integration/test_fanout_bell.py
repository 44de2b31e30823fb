"""The rings of the real scripts, as the tail understands them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.fanout.bell import parse_ring
from server.streams.connections import connect, execute
from server.streams.doorbell import Doorbells
from server.streams.event import Draft, Event, normal_text
from server.streams.keys import Keys
from tests.support.log_hand import Hand, drafts
from tests.support.waiting import wait_until

TYPES = st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True)


@dataclass
class Ear:
    """What was rung on `chat` and on the stream of task `a`."""

    rings: asyncio.Queue[bytes]

    async def next(self) -> tuple[Event, ...] | None:
        async with asyncio.timeout(30):
            return parse_ring(await self.rings.get())


@pytest.fixture
async def ear(redis_url: str, keys: Keys) -> AsyncIterator[Ear]:
    client = connect(redis_url, name="bells", socket_timeout=None)
    bells = Doorbells(client, home=keys.bell("home"))
    found = Ear(asyncio.Queue())
    running = asyncio.create_task(bells.run())
    await wait_until(lambda: bells.is_connected, description="the doorbell is connected")
    for stream in ("chat", "tasks.a"):
        await bells.watch(keys.bell(stream), found.rings.put_nowait)
    yield found
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await client.aclose()


async def test_a_ring_brings_exactly_what_the_log_holds(hand: Hand, ear: Ear):
    await hand.publish("chat", [Draft("a", "é\n\u2028\0"), Draft("b", ""), Draft("c.d:e", "{}")], token="1")
    assert await ear.next() == await hand.log("chat")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.lists(st.builds(Draft, TYPES, st.text(st.characters(exclude_categories=["Cs"]))), min_size=1, max_size=5)
)
async def test_whatever_is_appended_its_ring_brings_what_is_read_afterwards(hand: Hand, ear: Ear, batch: list[Draft]):
    await hand.publish("chat", batch, token=token_hex(8))
    found = await ear.next()
    assert found == (await hand.log("chat"))[-len(batch) :]
    assert [(event.type, event.data) for event in found or ()] == [
        (each.type, normal_text(each.data)) for each in batch
    ]


async def test_a_ring_tells_of_a_new_generation_and_of_a_loss(hand: Hand, ear: Ear):
    first = await hand.publish("chat", drafts("a"), token="1")
    await ear.next()
    await execute(hand.client, "DEBUG", "CHANGE-REPL-ID")
    await hand.publish("chat", drafts("b"), token="2", known=first.id.next())
    found = await ear.next()
    assert found == (await hand.log("chat"))[1:]
    assert found is not None
    assert (found[0].previous, found[0].lost) == (first.id, first.id.next())


async def test_a_batch_above_64_kb_rings_without_its_events(hand: Hand, ear: Ear):
    await hand.publish("chat", drafts("x" * 70_000), token="1")
    assert await ear.next() is None


async def test_claim_append_and_finish_ring_with_what_they_wrote(hand: Hand, ear: Ear):
    record = await hand.running()
    await hand.append(record, 1, drafts("1", "2"))
    await hand.finish(record, 3)
    rung = [event for _ in range(3) for event in await ear.next() or ()]
    assert tuple(rung) == await hand.task_log()
    assert [event.is_terminal for event in rung] == [False, False, False, True]


async def test_a_settlement_rings_with_its_terminal_event(hand: Hand, ear: Ear):
    await hand.create()
    await hand.settle()
    assert await ear.next() == await hand.task_log()


async def test_an_empty_append_does_not_ring_and_a_repair_rings_with_the_rest(hand: Hand, ear: Ear):
    record = await hand.running()
    await ear.next()
    await hand.append(record, 1)
    await hand.append(record, 0, drafts("0", "1"), mode="repair")
    assert await ear.next() == (await hand.task_log())[1:]


async def test_a_deletion_and_a_rerun_ring_to_say_look(hand: Hand, ear: Ear):
    await hand.ended()
    for _ in range(2):
        assert await ear.next() is not None
    await hand.start(rerun_of=1)
    assert await ear.next() is None
    await hand.settle()
    assert await ear.next() is not None
    await hand.delete()
    assert await ear.next() is None


async def test_an_append_stands_although_its_writer_may_not_ring(hand: Hand, redis_url: str, keys: Keys):
    await execute(hand.client, "ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "resetchannels")
    try:
        client = connect(redis_url, name="mute")
        await execute(client, "AUTH", "mute", "any")
        assert (await Hand(client, keys).publish("chat", drafts("a"), token="1")).outcome == "stored"
        assert await execute(hand.client, "PTTL", keys.log("chat")) > 0
        await client.aclose()
    finally:
        await execute(hand.client, "ACL", "DELUSER", "mute")
