"""Open streams in a Cluster: each stream in a slot of its own, the list of their names in another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.streams.calls import Lifetimes
from server.streams.connections import connect, execute
from server.streams.errors import StreamClosed
from server.streams.event import Draft
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.open_streams import OpenStreams
from server.streams.retention import Retention
from server.streams.topology.slots import slot_of
from tests.support.cluster import Cluster, clustered
from tests.support.log_hand import Hand, drafts
from workers import open_stream

pytestmark = pytest.mark.timeout(180)

#: Streams of every node.
NAMES = [f"chat.{number:02}" for number in range(20)]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with clustered() as found:
        yield found


@pytest.fixture
async def hand(cluster: Cluster, keys: Keys) -> AsyncIterator[Hand]:
    client = connect(cluster.url, name="test")
    assert await execute(client, "PING")
    yield Hand(client, keys)
    await client.aclose()


@pytest.fixture
def streams(hand: Hand) -> OpenStreams:
    lifetimes = Lifetimes()
    log = Log(hand.client, hand.keys, lifetimes=lifetimes, max_events=100)
    return OpenStreams(hand.client, hand.keys, log, lifetimes=lifetimes, max_events=100, max_bytes=0)


async def listed(streams: OpenStreams) -> list[str]:
    return [each.name for each in (await streams.index.list(prefix="chat", limit=100)).streams]


async def move(cluster: Cluster, key: str) -> None:
    """Move the slot of a key to another node."""
    source = cluster.owner(key)
    target = next(node for node in cluster.masters if node is not source)
    await asyncio.to_thread(cluster.move_slot, slot_of(key), source, target)


async def test_streams_of_all_nodes_are_written_listed_closed_and_deleted(
    cluster: Cluster, hand: Hand, streams: OpenStreams
) -> None:
    for name in NAMES:
        await streams.create(name, Retention(2))
        await streams.publish(name, drafts("a", "b", "c"), token="once")
    assert len({cluster.owner(hand.keys.log(name)) for name in NAMES}) == 3
    assert await listed(streams) == NAMES
    for name in NAMES[::2]:
        await streams.delete(name)
    await asyncio.gather(*(streams.close(name, Draft("complete", "{}")) for name in NAMES[1::2]))
    assert await listed(streams) == NAMES[1::2]
    assert [event.data for event in await hand.log(NAMES[1])] == ["b", "c", "{}"]
    with pytest.raises(StreamClosed, match="was deleted"):
        await streams.publish(NAMES[0], drafts("d"), token=None)


async def test_a_stream_and_the_list_may_move_between_two_requests(
    cluster: Cluster, hand: Hand, streams: OpenStreams
) -> None:
    first = await streams.publish("chat.1", drafts("a"), token="once")
    await move(cluster, hand.keys.log("chat.1"))
    await move(cluster, hand.keys.streams_index)
    assert await streams.publish("chat.1", drafts("a"), token="once") == first
    await streams.publish("chat.2", drafts("a"), token=None)
    assert await listed(streams) == ["chat.1", "chat.2"]


async def test_programs_that_write_streams_of_all_nodes_put_them_on_the_list(
    cluster: Cluster, streams: OpenStreams
) -> None:
    async def write(name: str) -> None:
        async with open_stream(cluster.url, name) as stream:
            await stream.emit("n", 1, key="k")

    await asyncio.gather(*map(write, NAMES))
    assert await listed(streams) == NAMES
