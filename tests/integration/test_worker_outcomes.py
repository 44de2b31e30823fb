"""How a task ends, by what its function did; and that the worker goes on whatever it did."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.streams.records import Status
from tests.support.waiting import wait_until
from tests.support.working import Bench, working
from workers.worker import Worker


@pytest.fixture(autouse=True)
async def worker(redis_url: str) -> AsyncIterator[Worker]:
    async with working(redis_url, max_event_bytes=4096) as found:
        yield found


async def test_a_function_in_a_thread_emits_in_order_and_completes(bench: Bench) -> None:
    task_id = await bench.create("emit_many_in_thread", count=50)
    record = await bench.end(task_id)
    assert [data["number"] for data in await bench.datas(task_id, "number")] == list(range(50))
    assert record.as_json()["result"] == {"count": 50}


@pytest.mark.parametrize("task_type", ["fail", "fail_in_thread"])
async def test_an_exception_ends_the_task_with_its_type_and_message(bench: Bench, task_type: str) -> None:
    record = await bench.end(await bench.create(task_type, max_attempts=1, message="no such page"))
    assert record.status is Status.FAILED
    assert record.values["end"] == '{"error":"LookupError: no such page","code":"task_failed"}'


async def test_a_traceback_goes_to_the_log_of_the_worker_and_not_to_readers(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = await bench.create("fail", max_attempts=1, message="no such page")
    record = await bench.end(task_id)
    assert "Traceback" not in record.values["end"]
    found = [each for each in caplog.records if task_id in each.getMessage() and each.levelno == logging.WARNING]
    assert found
    assert found[0].exc_info


async def test_an_endless_message_of_an_exception_is_cut(bench: Bench) -> None:
    record = await bench.end(await bench.create("fail", max_attempts=1, message="x" * 100_000))
    assert len(record.values["end"]) < 2100


async def test_a_message_that_utf_8_cannot_hold_still_ends_the_task(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    # The captured traceback would hold it too, and pytest-xdist cannot send that from process to process.
    with caplog.at_level(logging.CRITICAL, logger="workers"):
        record = await bench.end(await bench.create("fail_with_odd_text", max_attempts=1))
    assert record.as_json()["error"] == "ValueError: ? is half a character"


@pytest.mark.parametrize("task_type", ["leave", "leave_in_thread"])
async def test_sys_exit_fails_the_task_and_spares_the_worker(bench: Bench, task_type: str) -> None:
    record = await bench.end(await bench.create(task_type))
    assert record.as_json()["error"] == "SystemExit: 3"
    assert (await bench.end(await bench.create("tell_attempt"))).status is Status.COMPLETED


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(bench: Bench) -> None:
    record = await bench.end(await bench.create("cancel_itself"))
    assert record.as_json()["error"] == "CancelledError"


@pytest.mark.parametrize(
    ("task_type", "input", "code"),
    [
        ("return_what_json_cannot_hold", {}, "result_not_serializable"),
        ("return_much", {"size": 5000}, "result_too_large"),
        ("countdown", {"seconds": 61}, "invalid_input"),
        ("countdown", {"minutes": 1}, "invalid_input"),
        ("countdown", {"seconds": "x"}, "invalid_input"),
    ],
)
async def test_what_cannot_be_an_input_or_a_result_fails_with_its_code(
    bench: Bench, task_type: str, input: dict[str, Any], code: str
) -> None:
    task_id = await bench.create(task_type, **input)
    record = await bench.end(task_id)
    assert [data["code"] for data in await bench.datas(task_id, "error")] == [code]
    assert record.status is Status.FAILED


@pytest.mark.parametrize(
    ("input", "reason"),
    [
        ({"kind": "complete"}, "Reprise's own"),
        ({"kind": "not a type"}, "not an event type"),
        ({"kind": "note", "data": "x" * 5000}, "REPRISE_MAX_EVENT_BYTES"),
    ],
)
async def test_an_event_that_breaks_a_rule_fails_its_task_with_a_sentence(
    bench: Bench, input: dict[str, Any], reason: str
) -> None:
    task_id = await bench.create("emit_once", **input)
    record = await bench.end(task_id)
    assert reason in str(record.as_json()["error"])
    assert await bench.types(task_id) == ["attempt", "error"]


async def test_a_task_knows_its_id_its_attempt_and_a_fencing_token(bench: Bench) -> None:
    task_id = await bench.create("tell_attempt")
    record = await bench.end(task_id)
    fence = (await bench.events(task_id))[0].id.generation
    assert record.as_json()["result"] == {"task_id": task_id, "attempt": 1, "fence": fence, "cancelled": False}


async def test_nothing_is_written_behind_the_end_of_a_task(bench: Bench) -> None:
    task_id = await bench.create("emit_after_the_end")
    await bench.end(task_id)
    await bench.queue_is_empty()
    assert await bench.types(task_id) == ["attempt", "complete"]


async def test_progress_is_announced_seldom_and_its_last_state_always(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.news._PAUSE_SECONDS", 3600)  # between two announcements
    task_id = await bench.create("step_through", steps=1000)
    record = await bench.end(task_id)

    async def end_is_told() -> bool:  # behind the end itself
        return (await bench.updates(task_id))[-1]["status"] == "completed"

    await wait_until(end_is_told, description="the end is announced")
    updates = await bench.updates(task_id)
    assert len(await bench.datas(task_id, "progress")) == 1001
    assert len(updates) <= 4  # pending, running, one between, completed
    assert (updates[-1]["status"], updates[-1]["progress"], record.progress) == ("completed", 100, 100)


async def test_start_and_end_are_announced_once_to_readers_of_the_whole_system(bench: Bench) -> None:
    task_id = await bench.create("tell_attempt")
    await bench.end(task_id)
    await bench.queue_is_empty()
    statuses = [update["status"] for update in await bench.updates(task_id, stream="system")]
    assert statuses == ["pending", "running", "completed"]


async def test_the_entry_of_an_ended_task_leaves_the_queue(bench: Bench) -> None:
    await bench.end(await bench.create("tell_attempt"))
    await bench.queue_is_empty()
    assert await bench.pending() == 0
