"""A slot on its way: the keys of one stream lie on two nodes, then all on the new one, which is not its owner yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from server.streams import calls
from server.streams.connections import AsyncClient, connect, execute
from server.streams.errors import LogUnavailable
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.names import task_stream
from server.streams.topology.slots import slot_of
from tests.support.cluster import Cluster
from tests.support.ears import listening
from tests.support.log_hand import LIFETIMES, Hand
from tests.support.redis_node import RedisNode
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[AsyncClient]:
    found = connect(cluster.url, name="test")
    assert await execute(found, "PING")
    yield found
    await found.aclose()


@dataclass
class Move:
    """A slot that goes from one node to another, key by key."""

    cluster: Cluster
    slot: int
    source: RedisNode
    target: RedisNode

    async def go(self, *steps: Callable[[], Awaitable[Any]]) -> None:
        """Move it; after each key one of the steps is awaited, the last while all keys are at the target."""
        loop, left = asyncio.get_running_loop(), list(steps)

        def between() -> None:
            asyncio.run_coroutine_threadsafe(_awaited(left.pop(0)), loop).result(30)

        await asyncio.to_thread(self.cluster.move_slot, self.slot, self.source, self.target, between=between)
        assert not left, "There were fewer keys than steps."

    def told_to_try_again(self) -> int:
        """How often one of the two nodes said TRYAGAIN."""
        found = 0
        for node in (self.source, self.target):
            errors: Any = node.info("errorstats").get("errorstat_TRYAGAIN")
            found += int(errors["count"]) if errors else 0
        return found

    async def until_told_to_try_again(self) -> None:
        before = self.told_to_try_again()
        await wait_until(lambda: self.told_to_try_again() > before, description="a node says TRYAGAIN")


async def _awaited(step: Callable[[], Awaitable[Any]]) -> Any:
    return await step()


@pytest.fixture
def move(cluster: Cluster) -> Callable[[str], Move]:
    def of(key: str) -> Move:
        source = cluster.owner(key)
        return Move(cluster, slot_of(key), source, next(node for node in cluster.masters if node is not source))

    return of


async def test_an_append_waits_while_log_and_record_are_on_different_nodes_and_then_stands_once_and_rings(
    cluster: Cluster, client: AsyncClient, move: Callable[[str], Move]
):
    keys = Keys()
    hand = Hand(client, keys)
    async with listening(cluster.url) as ear, hand.writer(await hand.running()) as writer:
        bell = keys.bell(task_stream("a"))
        await ear.bells.watch(bell, ear.rung.append)
        moving = move(bell)

        async def emit(number: str) -> None:
            await writer.emit(Draft("t", number))

        async def divided() -> None:
            await emit("1")
            await moving.until_told_to_try_again()
            assert writer.stored.sequence == 0

        async def all_there() -> None:
            # The channel is no key: no node has it, and an append that named it would have to wait for the whole move.
            await writer.flush()
            await emit("2")
            await writer.flush()

        await moving.go(divided, all_there)
        await wait_until(lambda: moving.target.command("PUBSUB", "SHARDNUMSUB", bell)[1] == 1, description="it moved")
        # What rang where nobody listened yet is lost, and whoever listens is told to look.
        await wait_until(lambda: b"" in ear.rung, description="the ear is told to look")
        await emit("three")
        await writer.flush()
        events = await hand.task_log()
        assert [event.data for event in events if event.type == "t"] == ["1", "2", "three"]
        assert [event.id.sequence for event in events] == [0, 1, 2, 3]
        await wait_until(lambda: any(b"three" in ring for ring in ear.rung), description="the new owner rings")


async def test_a_publish_under_its_token_is_stored_once_while_its_slot_is_imported(
    client: AsyncClient, move: Callable[[str], Move]
):
    keys = Keys()
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0)
    first = await log.publish("chat", [Draft("t", "1")], token="a")
    moving = move(keys.log("chat"))
    asked: list[asyncio.Task[Any]] = []

    async def insist(data: str, token: str) -> list[EventId]:
        while True:
            try:
                return await log.publish("chat", [Draft("t", data)], token=token)
            except LogUnavailable as error:  # a busy machine moves a slot for longer than a publisher waits
                if error.code != "TRYAGAIN":
                    raise

    async def publish(data: str, token: str) -> None:
        asked.append(asyncio.create_task(insist(data, token)))
        await moving.until_told_to_try_again()

    async def divided() -> None:
        await publish("1", "a")

    async def all_there() -> None:
        # That token is nowhere yet: whether it was used is unknown until the slot has moved.
        await publish("2", "b")
        with pytest.raises(LogUnavailable, match="TRYAGAIN Multiple keys request"):
            await Hand(client, keys).publish("chat", [Draft("t", "3")], token="c")
        assert not asked[-1].done()

    await moving.go(divided, all_there)
    again, second = await asyncio.wait_for(asyncio.gather(*asked), 20)
    assert again == first
    # Another node is another incarnation of the server, for its readers by `p` the next event all the same.
    assert (second[0] > first[0], second[0].sequence) == (True, 0)
    events = await Hand(client, keys).log("chat")
    assert [event.data for event in events] == ["1", "2"]
    assert events[1].previous == first[0]


async def test_a_shared_stream_is_read_all_the_time_while_its_slot_is_on_its_way(
    client: AsyncClient, move: Callable[[str], Move]
):
    keys = Keys()
    log = Log(client, keys, lifetimes=LIFETIMES, max_events=0)
    await log.publish("chat", [Draft("t", "1")], token="a")

    async def look() -> None:
        found = await log.read("chat", limit=10)
        assert ([event.data for event in found.events], found.is_deleted) == (["1"], False)

    await move(keys.log("chat")).go(look, look)
    erasing = calls.erase(keys, "chat", Draft("cancelled", "{}"), entropy=1, known=None, lifetimes=LIFETIMES)
    await Hand(client, keys).run(erasing)

    async def look_at_nothing() -> None:
        found = await log.read("chat", limit=10)
        assert (found.events, found.is_deleted) == ((), True)

    # The marker and the token of the append.
    await move(keys.log("chat")).go(look_at_nothing, look_at_nothing)
