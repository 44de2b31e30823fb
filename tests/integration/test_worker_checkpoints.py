"""Checkpoints: what stands of an attempt that failed or died, and where the next one goes on."""

import json
import signal

import pytest

from server.streams.errors import Fenced
from server.streams.event import Draft
from server.streams.ids import EventId
from server.streams.names import task_stream
from server.streams.records import Status
from tests.support.live_side import live_side
from tests.support.log_hand import Hand
from tests.support.working import Bench, WorkerProcess, working

MODULE = "tests.tasks.checkpointing"


async def test_the_next_attempt_goes_on_from_the_checkpoint_and_what_came_before_stands(
    redis_url: str, bench: Bench
) -> None:
    async with working(redis_url, MODULE):
        task_id = await bench.create("count_with_checkpoints", count=6, fail_at=4)
        record = await bench.end(task_id)
    assert record.as_json()["result"] == {"restored": {"next": 4}}
    events = await bench.events(task_id)
    checkpoints = [event for event in events if event.type == "checkpoint"]
    assert [event.data for event in checkpoints] == ["{}"] * 3
    second = json.loads([event for event in events if event.type == "attempt"][1].data)
    assert (second["reason"], second["resume_from"]) == ("retry", str(checkpoints[1].id))


async def test_readers_early_and_late_see_each_kept_event_once_and_no_void_one(redis_url: str, bench: Bench) -> None:
    task_id = await bench.create("count_with_checkpoints", count=6, fail_at=4)
    async with live_side(redis_url, bench.keys) as side:
        early = await side.read(task_stream(task_id))
        async with working(redis_url, MODULE):
            await bench.end(task_id)
        late = await side.read(task_stream(task_id))
        await early.end()
        await late.end()
    numbers = [json.loads(event.data)["number"] for event in late.events if event.event == "number"]
    assert numbers == [0, 1, 2, 3, 4, 5]
    assert "gap" not in early.types + late.types
    # The early one saw the number that became void, and was told so.
    assert [json.loads(event.data)["number"] for event in early.events if event.event == "number"] == [
        0, 1, 2, 3, 4, 4, 5,
    ]  # fmt: skip


async def test_a_checkpoint_from_a_thread_outlives_its_worker(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, modules=(MODULE,)) as doomed:
        await doomed.says("is ready")
        task_id = await bench.create("checkpoint_in_thread")
        await bench.has_emitted(task_id, "void")
        doomed.send(signal.SIGKILL)
    async with working(redis_url, MODULE):
        record = await bench.end(task_id)
    assert record.as_json()["result"] == {"restored": [1, "ü", None]}
    assert record.status is Status.COMPLETED


@pytest.mark.parametrize(
    ("kind", "reason"), [("set", "cannot be written as JSON"), ("size", "REPRISE_MAX_EVENT_BYTES")]
)
async def test_a_state_that_cannot_be_kept_is_an_error_of_the_task_and_leaves_the_one_before(
    redis_url: str, bench: Bench, kind: str, reason: str
) -> None:
    async with working(redis_url, MODULE, max_event_bytes=4096):
        record = await bench.end(await bench.create("checkpoint_badly", kind=kind))
    assert reason in record.as_json()["error"]
    assert "The state of the checkpoint" in record.as_json()["error"]
    assert record.values["checkpoint"] == '{"good":true}'


async def test_a_rerun_begins_without_what_an_earlier_run_kept(redis_url: str, bench: Bench) -> None:
    async with working(redis_url, MODULE):
        task_id = await bench.create("count_with_checkpoints", count=2, fail_at=9)
        await bench.end(task_id)
        await bench.store.start(task_id, rerun_of=1)
        await bench.has_emitted(task_id, "complete", count=2)
        assert (await bench.store.get(task_id)).as_json()["result"] == {"restored": None}


async def test_the_record_never_names_a_checkpoint_that_the_log_does_not_hold_yet(hand: Hand) -> None:
    record = await hand.running()
    async with hand.writer(record) as writer:
        for _ in range(1500):  # more than one batch
            await writer.emit(Draft("n", "{}"))
        stored = await writer.checkpoint("1")
        assert stored == EventId(record.generation, 1501)
        assert (await hand.fields())["resume_from"] == str(stored)
    # The same once more by hand: a batch that ends before the checkpoint carries none of its fields.
    writer = hand.writer(record)
    writer._changed = {"resume_from": f"{record.generation}-1200", "checkpoint": "1", "progress": "5"}
    for _ in range(1500):
        writer._outbox.add(Draft("n", "{}"))
    assert writer._fields_for(writer._outbox.next_batch()) == {"progress": "5"}


async def test_a_fenced_writer_keeps_no_checkpoint(hand: Hand) -> None:
    record = await hand.running(lease_ms=0)
    await hand.claimed(nonce="n2")
    async with hand.writer(record) as writer:
        with pytest.raises(Fenced):
            await writer.checkpoint("1")
    assert "checkpoint" not in await hand.fields()
