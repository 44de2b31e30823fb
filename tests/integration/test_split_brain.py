"""Two masters that both live and are both written to, with a sentinel that has not heard of the failover.

Behind a partition the old master answers and takes writes; whoever is connected to it leaves it once a majority of the
sentinels tells, and what the two sides wrote meanwhile is one whole story to readers, or they are told what is void.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from server.streams.bulk import open_bulk
from server.streams.connections import AsyncClient, connect, connect_sync, execute, execute_many_sync
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.records import Status
from tests.support.divided import Divided, divided
from tests.support.ears import listening, rings
from tests.support.event_reader import data_of, reading
from tests.support.waiting import wait_until
from tests.support.web import serving
from tests.support.working import LEASE_SECONDS, MODULES, Bench, working
from workers import open_stream

pytestmark = pytest.mark.timeout(120)

ALL_MODULES = (*MODULES, "tests.tasks.stuck")


@pytest.fixture
async def masters() -> AsyncIterator[Divided]:
    with divided() as found:
        yield found


@pytest.fixture
async def client(masters: Divided) -> AsyncIterator[AsyncClient]:
    found = connect(masters.url, name="test")
    yield found
    await found.aclose()


async def test_a_master_that_answers_and_takes_writes_is_left_as_soon_as_a_majority_knows_of_its_successor(
    masters: Divided, client: AsyncClient
):
    threads = connect_sync(masters.url, name="threads")
    bulk = await open_bulk(client)
    async with listening(masters.url) as ear:
        ear.bells.watch("a", ear.rung.append)
        await masters.divide()
        assert await execute(client, "SET", "key", "1")
        assert execute_many_sync(threads, [("SET", "thread", "1")]) == [True]
        await rings(client, "a", "before", ear)
        assert not masters.new.command("EXISTS", "key", "thread")
        _, *others = masters.sentinels  # the first one hears nothing
        masters.tell(*others)
        # What is connected is cut, though it works and nobody uses it.
        await wait_until(lambda: bulk.is_lost, description="what leads to the old master is cut")
        await ear.until_told("connected", "disconnected", "connected")

        async def reaches_the_new_one() -> bool:
            with suppress(LogUnavailable):
                await execute(client, "SET", "key", "2")
                execute_many_sync(threads, [("SET", "thread", "2")])
            return masters.new.command("MGET", "key", "thread") == ["2", "2"]

        await wait_until(reaches_the_new_one, description="commands reach the new master")
        await rings(client, "a", "after", ear)
    assert masters.old.command("ROLE")[0] == "master"
    assert masters.old.command("GET", "key") == "1"
    await bulk.aclose()
    threads.close()


async def test_what_both_sides_wrote_is_whole_to_readers_or_they_are_told_what_is_void(
    masters: Divided, client: AsyncClient
):
    keys, new_url = Keys(), f"redis://{masters.new.address}/0"
    old_side, new_client = Bench(client, keys), connect(new_url, name="other-side")
    new_side = Bench(new_client, keys)
    async with (
        serving(masters.url, lease_seconds=LEASE_SECONDS) as web,
        working(masters.url, *ALL_MODULES) as _old_worker,
        open_stream(masters.url, "chat") as chat,
    ):
        await web.until_ready()
        task_id = await old_side.create("emit_for_ever")
        await old_side.has_emitted(task_id, "number", count=20)
        async with (
            reading(web.client, f"/tasks/{task_id}/events") as task,
            reading(web.client, "/streams/chat/events") as talk,
        ):
            following = asyncio.create_task(task.rest())
            talked = [await talk.next()]
            await chat.emit("n", "both")
            await chat.flush()
            talked.append(await talk.next())
            await masters.divide()
            await chat.emit("n", "old")
            await chat.flush()
            talked.append(await talk.next())
            async with working(new_url, *ALL_MODULES) as _new_worker, open_stream(new_url, "chat") as other:
                await other.emit("n", "new")
                await other.flush()
                await new_side.has_emitted(task_id, "attempt", count=2, timeout=20)
                await new_side.has_emitted(task_id, "number", count=100)
                assert await old_side.types(task_id) != await new_side.types(task_id)
                assert (await old_side.store.get(task_id)).attempt == 1  # it runs on both sides
                masters.tell(*masters.sentinels[1:])
                talked.append(await talk.next())

                async def has_moved() -> bool:
                    with suppress(LogUnavailable):
                        return (await old_side.store.get(task_id)).attempt == 2
                    return False

                await wait_until(has_moved, description="the task runs on the new side", timeout=30)
                # What a writer that is at its end flushed on the old side is lost, for nobody is left to repair it.
                await wait_until(lambda: "reprise-stream" not in masters.on_old_side(), description="the chat moves")
                await chat.emit("n", "after")
                await chat.complete()
                talked += await talk.rest()
                await new_side.store.cancel(task_id)
                record = await new_side.end(task_id)
                events = await following
    await new_client.aclose()
    assert (record.status, record.attempt) == (Status.CANCELLED, 2)
    kinds = [event.event for event in events]
    assert set(kinds) <= {"attempt", "number", "gap", "position", "cancelled"}
    # The run on the old side was whole as far as it was told and is void by an `attempt`; what stands is whole.
    assert [data_of(event)["attempt"] for event in events if event.event == "attempt"] == [1, 2]
    again = len(kinds) - 1 - kinds[::-1].index("attempt")
    for some in (events[:again], events[again:]):
        numbers = [data_of(event)["number"] for event in some if event.event == "number"]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 20
    assert kinds[-1] == "cancelled"
    said = [data_of(event) for event in talked if event.event == "n"]
    assert said == ["both", "old", "new", "after"]
    assert {event.event for event in talked} <= {"n", "position", "gap", "complete"}
