"""`reprise run` against a scripted server that answers as ours may, at its worst."""

import asyncio
import signal
from pathlib import Path

from tests.e2e.dev_run import REPRISE, environment, reprise
from tests.e2e.scripted import STREAM_HEAD, answer, frame, scripted
from tests.support.ports import unused_port

TASK = {"id": "t1", "events_url": "/tasks/t1/events"}


async def test_a_task_is_followed_over_several_connections_by_its_cursor(tmp_path: Path):
    async with scripted(
        answer("202 Accepted", TASK),
        STREAM_HEAD + frame("1-0", "attempt", {"attempt": 1}) + frame("1-1", "log", {"n": 1}) + b"id: 1-2\ndata",
        answer("502 Bad Gateway"),
        STREAM_HEAD,
        STREAM_HEAD + frame("1-2", "token", {"text": "hello"}) + frame("1-3", "complete", {"result": {"a": 1}}),
    ) as (script, url):
        code, out, errors = await reprise(tmp_path, "run", "demo", "--url", url)
    assert (code, out) == (0, '{"a": 1}\n')
    assert script.cursors == ["", "1-1", "1-1", "1-1"]
    assert errors.count('log {"n": 1}') == 1
    assert "hello" in errors


async def test_a_task_that_no_worker_could_run_is_said_to_wait_for_one(tmp_path: Path):
    said = asyncio.Event()

    async def begun_late() -> bytes:
        await said.wait()
        return STREAM_HEAD + frame("1-0", "attempt", {"attempt": 1}) + frame("1-1", "complete", {"result": 1})

    async with scripted(
        answer("202 Accepted", TASK),
        begun_late,
        answer("200 OK", {**TASK, "status": "pending", "workers": 0, "queue": "gpu"}),
    ) as (script, url):
        process = await asyncio.create_subprocess_exec(
            *(REPRISE, "run", "demo", "--queue", "gpu", "--url", url),
            cwd=tmp_path,
            env=environment(None),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr
        async with asyncio.timeout(120):
            errors = await process.stderr.readuntil(b"'gpu'")
            said.set()
            errors += await process.stderr.read()
            assert await process.wait() == 0
    assert '"queue":"gpu"' in script.asked[0]
    assert errors.count(b"waiting for a worker that offers 'demo' and takes tasks from queue 'gpu'") == 1


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(tmp_path: Path):
    async with scripted(
        b"",
        answer("503 Service Unavailable", {"detail": "Busy."}, "retry-after: 0"),
        answer("202 Accepted", TASK),
        STREAM_HEAD + frame("1-1", "complete", {"result": None}),
    ) as (script, url):
        code, _, errors = await reprise(tmp_path, "run", "demo", "--input", '{"a": 2}', "--url", url)
    assert code == 0
    assert errors.count("reprise: The server refuses (503): Busy; trying again\n") == 1
    keys = {line for text in script.asked for line in text.splitlines() if line.startswith("idempotency-key")}
    assert len(keys) == 1
    assert [text.count('{"type":"demo","input":{"a":2}}') for text in script.asked[:3]] == [1, 1, 1]


async def test_a_delay_is_asked_for_and_its_end_is_shown(tmp_path: Path):
    async with scripted(
        answer("202 Accepted", TASK | {"not_before": "2026-11-26T10:00:00.000Z"}),
        STREAM_HEAD + frame("1-1", "complete", {"result": None}),
    ) as (script, url):
        code, _, errors = await reprise(tmp_path, "run", "demo", "--delay", "2.5", "--unique-key", "k 1", "--url", url)
    assert code == 0
    assert '"unique_key":"k 1"' in script.asked[0]
    assert '"delay":2.5' in script.asked[0]
    assert "begins at 2026-11-2" in errors


async def test_a_delay_that_is_none_is_one_sentence_with_exit_code_2(tmp_path: Path):
    for text in ("-1", "nan", "inf"):
        code, out, errors = await reprise(tmp_path, "run", "demo", "--delay", text)
        assert (code, out, errors.count("\n")) == (2, "", 1)
        assert errors.startswith("reprise: --delay is ")


async def test_a_failed_task_is_told_with_exit_code_1(tmp_path: Path):
    async with scripted(
        answer("202 Accepted", TASK),
        STREAM_HEAD + frame("1-1", "error", {"error": "It broke.", "code": "task_failed"}),
    ) as (_, url):
        code, out, errors = await reprise(tmp_path, "run", "demo", "--url", url)
    assert (code, out) == (1, "")
    assert "reprise: The task failed: It broke. (task_failed)." in errors


async def test_a_stream_that_is_over_is_told_from_the_record(tmp_path: Path):
    record = {**TASK, "status": "completed", "result": 7, "error": None}
    async with scripted(answer("202 Accepted", TASK), answer("204 No Content"), answer("200 OK", record)) as (_, url):
        code, out, _ = await reprise(tmp_path, "run", "demo", "--url", url)
    assert (code, out) == (0, "7\n")


async def test_a_refusal_is_one_sentence_with_exit_code_2(tmp_path: Path):
    async with scripted(answer("422 Unprocessable", {"detail": "No worker offers 'demo'."})) as (_, url):
        code, out, errors = await reprise(tmp_path, "run", "demo", "--url", url)
    assert (code, out, errors) == (2, "", "reprise: The server refuses (422): No worker offers 'demo'.\n")


async def test_no_server_is_one_sentence_with_exit_code_2(tmp_path: Path):
    url = f"http://127.0.0.1:{unused_port()}"
    code, out, errors = await reprise(tmp_path, "run", "demo", "--url", url)
    assert (code, out) == (2, "")
    assert errors.startswith(f"reprise: Nothing answers at {url}")
    assert errors.count("\n") == 1


async def test_an_input_that_is_no_object_is_one_sentence_with_exit_code_2(tmp_path: Path):
    for text in ("[1]", "{", "seconds=5"):
        code, out, errors = await reprise(tmp_path, "run", "demo", "--input", text)
        assert (code, out, errors.count("\n")) == (2, "", 1)
        assert errors.startswith("reprise: --input is ")


async def test_a_server_that_is_not_ours_is_one_sentence(tmp_path: Path):
    async with scripted(answer("200 OK", [1])) as (_, url):
        code, _, errors = await reprise(tmp_path, "run", "demo", "--url", url)
    assert code == 2
    assert "is not Reprise" in errors


async def test_ctrl_c_stops_following_and_says_how_to_cancel(tmp_path: Path):
    async with scripted(
        answer("202 Accepted", TASK), STREAM_HEAD.replace(b"10", b"60000") + frame("1-1", "log", {"n": 1})
    ) as (_, url):
        process = await asyncio.create_subprocess_exec(
            *(REPRISE, "run", "demo", "--url", url),
            cwd=tmp_path,
            env=environment(None),
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr
        async with asyncio.timeout(60):
            await process.stderr.readuntil(b"connecting again")
            process.send_signal(signal.SIGINT)
            errors = (await process.stderr.read()).decode()
            assert await process.wait() == 130
    assert f"curl -X POST {url}/tasks/t1/cancel" in errors
    assert "Traceback" not in errors
