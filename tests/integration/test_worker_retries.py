"""Tasks that fail: when they are tried again, what readers and the record are told, and when they are given up."""

import signal
from collections.abc import AsyncIterator

import pytest

from server.streams.connections import execute
from server.streams.ready import GROUP
from server.streams.records import Status, TaskRecord
from tests.support.log_hand import Hand
from tests.support.waiting import wait_until
from tests.support.working import Bench, WorkerProcess, working

MODULES = ("tests.tasks.emitters", "tests.tasks.awkward", "tests.tasks.failing")


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[None]:
    async with working(redis_url, *MODULES):
        yield


@pytest.mark.usefixtures("worker")
async def test_a_function_that_raises_is_run_again_and_its_next_attempt_says_why(bench: Bench) -> None:
    task_id = await bench.create("fail_until", attempt=3)
    record = await bench.end(task_id)
    assert (record.status, record.attempt) == (Status.COMPLETED, 3)
    attempts = await bench.datas(task_id, "attempt")
    assert [(each["attempt"], each["reason"], each["error"]) for each in attempts] == [
        (1, "started", None),
        (2, "retry", "LookupError: attempt 1"),
        (3, "retry", "LookupError: attempt 2"),
    ]
    assert not record.is_dead_letter
    await bench.queue_is_empty()


@pytest.mark.usefixtures("worker")
async def test_a_task_whose_attempts_are_used_up_is_a_dead_letter_with_every_error(bench: Bench) -> None:
    task_id = await bench.create("fail_until", attempt=9, max_attempts=2)
    record = await bench.end(task_id)
    assert record.values["end"] == '{"error":"LookupError: attempt 2","code":"task_failed"}'
    assert [event for event in await bench.types(task_id) if event != "attempt"] == ["error"]
    found = await bench.dead_letters.get(task_id)
    assert [(each["attempt"], each["error"], each["code"]) for each in found.errors] == [
        (1, "LookupError: attempt 1", "task_failed"),
        (2, "LookupError: attempt 2", "task_failed"),
    ]
    assert found.input == {"attempt": 9}
    await bench.queue_is_empty()  # the list is told of a task that has ended already, before its entry goes
    page = await bench.dead_letters.list(limit=10)
    assert [each.id for each in page.tasks] == [task_id]


@pytest.mark.usefixtures("worker")
async def test_between_two_attempts_a_task_is_pending_and_waits_for_its_time(bench: Bench) -> None:
    task_id = await bench.create("fail_slowly")
    record = await _postponed(bench, task_id)
    assert record.as_json()["not_before"] > record.as_json()["updated_at"]
    assert (record.as_json()["status"], record.as_json()["error"]) == ("pending", "LookupError: no")
    assert await bench.queue_length() == 0
    assert (await bench.updates(task_id, stream="system"))[-1]["status"] == "pending"
    assert (await bench.store.cancel(task_id)).status is Status.CANCELLED
    assert await bench.types(task_id) == ["attempt", "cancelled"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("task_type", "error"),
    [
        ("declare_failure", "It cannot be done."),
        ("raise_unlisted", "KeyError: 'x'"),
        ("raise_excluded", "KeyError: 'x'"),
    ],
)
async def test_what_another_attempt_cannot_mend_is_not_tried_again(bench: Bench, task_type: str, error: str) -> None:
    record = await bench.end(await bench.create(task_type))
    assert (record.as_json()["error"], record.attempt) == (error, 1)


@pytest.mark.usefixtures("worker")
async def test_a_task_that_says_itself_that_it_has_failed_is_no_dead_letter(bench: Bench) -> None:
    meant, broken = await bench.create("declare_failure"), await bench.create("return_what_json_cannot_hold")
    for task_id in (meant, broken):
        await bench.end(task_id)
    await bench.queue_is_empty()
    page = await bench.dead_letters.list(limit=10)
    assert [(each.id, each.end_code) for each in page.tasks] == [(broken, "result_not_serializable")]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("task_type", ["hang", "hang_in_thread"])
async def test_a_hung_function_ends_by_its_timeout_and_is_tried_again(bench: Bench, task_type: str) -> None:
    record = await bench.end(await bench.create(task_type, max_attempts=2))
    assert (record.end_code, record.attempt) == ("timeout", 2)
    assert [each["code"] for each in record.errors] == ["timeout", "timeout"]
    assert record.as_json()["error"] == "The attempt took longer than its timeout of 0.2 s."


async def test_a_task_that_blocks_its_worker_past_its_timeout_is_taken_over(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, modules=MODULES, lease_seconds=1) as blocked:
        await blocked.says("is ready")
        task_id = await bench.create("block_past_timeout")
        await bench.has_emitted(task_id, "attempt")  # what the function emits may not get out before it blocks
        async with working(redis_url, *MODULES):
            record = await bench.end(task_id)
        assert blocked.has_said("hangs past its timeout")
    assert (record.status, record.attempt) == (Status.COMPLETED, 2)
    again = (await bench.datas(task_id, "attempt"))[1]
    assert (again["reason"], again["error"]) == ("retry", "The attempt took longer than its timeout of 2 s.")
    assert [each["code"] for each in record.errors] == ["timeout"]


async def test_a_task_that_must_not_run_twice_fails_with_its_worker(redis_url: str, bench: Bench) -> None:
    with WorkerProcess(redis_url, modules=MODULES) as doomed:
        await doomed.says("is ready")
        task_id = await bench.create("wait", on_worker_lost="fail")
        await bench.has_emitted(task_id, "waiting")
        doomed.send(signal.SIGKILL)
    async with working(redis_url, *MODULES):
        record = await bench.end(task_id)
    assert (record.end_code, record.attempt, record.is_dead_letter) == ("worker_lost", 1, True)
    assert [each["code"] for each in record.errors] == ["worker_lost"]


async def test_a_task_that_must_not_run_twice_is_not_handed_back_by_a_worker_that_leaves(
    redis_url: str, bench: Bench
) -> None:
    async with working(redis_url, *MODULES):
        task_id = await bench.create("wait", on_worker_lost="fail")
        await bench.has_emitted(task_id, "waiting")
    record = await bench.end(task_id)
    assert (record.end_code, record.attempt) == ("worker_lost", 1)


async def test_a_task_that_kills_every_worker_ends_as_a_dead_letter_and_takes_nothing_with_it(
    redis_url: str, bench: Bench
) -> None:
    with WorkerProcess(redis_url, modules=MODULES) as first, WorkerProcess(redis_url, modules=MODULES) as second:
        for each in (first, second):
            await each.says("is ready")
        poison = await bench.create("kill_worker", max_attempts=2)
        others = [await bench.create("emit_many", count=2) for _ in range(5)]
        for each in (first, second):
            assert await each.ends() == -signal.SIGKILL
    async with working(redis_url, *MODULES):
        record = await bench.end(poison)
        for task_id in others:
            assert (await bench.end(task_id)).status is Status.COMPLETED
        await bench.queue_is_empty()
    assert (record.end_code, record.attempt, record.is_dead_letter) == ("attempts_exhausted", 2, True)
    assert [each["code"] for each in record.errors] == ["worker_lost", "worker_lost"]
    assert [each.id for each in (await bench.dead_letters.list(limit=10)).tasks] == [poison]


async def test_a_worker_that_dies_while_it_puts_a_task_off_loses_nothing(redis_url: str, bench: Bench) -> None:
    # Between the record and the delayed set: the entry is still its own, and nobody touches it any more.
    task_id = await bench.create("fail_slowly")
    ready, dead = bench.keys.ready("default", "fail_slowly"), Hand(bench.client, bench.keys)
    await execute(bench.client, "XGROUP", "CREATE", ready, GROUP, "0")
    await execute(bench.client, "XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 1, "STREAMS", ready, ">")
    await dead.claimed(task_id)
    not_before_ms = (await dead.retry(task_id, delay_ms=600_000)).not_before_ms
    assert await bench.pending() == 1
    async with working(redis_url, *MODULES):
        record = await _postponed(bench, task_id)
        assert (record.not_before_ms, record.attempt) == (not_before_ms, 1)
        await bench.queue_is_empty()
        assert await bench.pending() == 0
        await bench.store.cancel(task_id)


async def _postponed(bench: Bench, task_id: str) -> TaskRecord:
    async def found() -> object:
        record = await bench.store.get(task_id)
        members = await execute(bench.client, "ZCARD", bench.keys.delayed("default"))
        return record if record.not_before_ms and members else None

    await wait_until(found, description="the task is put off")
    return await bench.store.get(task_id)
