"""Each demo task from creation to end, as it stands in Redis."""

import asyncio

import pytest

from server.streams.records import Status
from tests.support.working import Bench, working

EXAMPLES = "workers.examples"


@pytest.fixture
async def _worker(redis_url: str):
    async with working(redis_url, EXAMPLES):
        yield


@pytest.mark.usefixtures("_worker")
async def test_countdown_ticks_each_second_from_its_start_to_one(bench: Bench) -> None:
    task_id = await bench.create("countdown", seconds=2)
    record = await bench.end(task_id)
    assert await bench.types(task_id) == ["attempt", "tick", "tick", "complete"]
    assert await bench.datas(task_id, "tick") == [{"remaining": 2}, {"remaining": 1}]
    assert record.as_json()["result"] == {"seconds": 2}
    first, *_, last = await bench.events(task_id)
    assert first.at_ms
    assert last.at_ms
    assert last.at_ms - first.at_ms >= 2000


@pytest.mark.usefixtures("_worker")
async def test_process_reports_five_named_steps(bench: Bench) -> None:
    task_id = await bench.create("process")
    record = await bench.end(task_id)
    reports = await bench.datas(task_id, "progress")
    assert [report["percentage"] for report in reports] == [0, 20, 40, 60, 80, 100]
    assert all(report["total_steps"] == 5 and report["message"] for report in reports)
    assert record.status is Status.COMPLETED
    assert record.progress == 100


@pytest.mark.usefixtures("_worker")
async def test_thinking_has_three_to_five_thoughts_and_then_a_conclusion(bench: Bench) -> None:
    task_ids = [await bench.create("thinking", question="?" * length) for length in (1, 2, 3)]
    await asyncio.gather(*[bench.end(task_id) for task_id in task_ids])
    counts = [(await bench.types(task_id)).count("thought") for task_id in task_ids]
    assert sorted(counts) == [3, 4, 5]
    assert (await bench.types(task_ids[0]))[-2:] == ["conclusion", "complete"]


@pytest.mark.usefixtures("_worker")
async def test_chat_streams_a_few_hundred_tokens_that_make_up_a_reply_to_the_prompt(bench: Bench) -> None:
    task_id = await bench.create("chat", prompt="Why tokens?")
    await bench.end(task_id, timeout=60)
    tokens = [token["text"] for token in await bench.datas(task_id, "token")]
    reply = "".join(tokens)
    assert 200 <= len(tokens) <= 600
    assert reply.startswith('You asked: "Why tokens?".')
    assert "  " not in reply


@pytest.mark.usefixtures("_worker")
async def test_flaky_fails_at_the_step_it_was_given(bench: Bench) -> None:
    task_id = await bench.create("flaky", fail_at=2)
    record = await bench.end(task_id)
    assert await bench.types(task_id) == ["attempt", "progress", "progress", "error"]
    assert await bench.datas(task_id, "error") == [{"error": "Step 2 failed, as you asked.", "code": "task_failed"}]
    assert (record.status, record.progress) == (Status.FAILED, 40)


@pytest.mark.usefixtures("_worker")
async def test_the_demo_tasks_are_offered_with_a_description_and_a_closed_schema(bench: Bench) -> None:
    offered = {each.name: each for each in await bench.registry.live_types()}
    assert sorted(offered) == ["chat", "countdown", "flaky", "process", "thinking"]
    for each in offered.values():
        assert each.description
        assert each.input_schema["additionalProperties"] is False
    seconds = offered["countdown"].input_schema["properties"]["seconds"]
    assert (seconds["minimum"], seconds["maximum"], seconds["type"]) == (1, 60, "integer")
