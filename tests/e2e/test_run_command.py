"""`reprise run` against a scripted server that answers as ours may, at its worst."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.dev_run import REPRISE, environment, reprise
from tests.support.ports import unused_port

#: Bytes, or what gives them once it is time.
Answer = bytes | Callable[[], Awaitable[bytes]]

TASK = {"id": "t1", "events_url": "/tasks/t1/events"}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 10\n\n"


def answer(status: str, body: object = None, *headers: str) -> bytes:
    text = json.dumps(body).encode() if body is not None else b""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(text)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + text


def frame(id: str, type: str, data: object) -> bytes:
    return f"id: {id}\nevent: {type}\ndata: {json.dumps(data)}\n\n".encode()


class Script:
    """Gives the next answer to each request; keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    @property
    def cursors(self) -> list[str]:
        """The Last-Event-ID of each request for the stream."""
        requests = [text for text in self.asked if text.startswith("GET /tasks/t1/events")]
        found = [re.search(r"^last-event-id: (.*)\r", text, re.MULTILINE | re.IGNORECASE) for text in requests]
        return [match[1] if match else "" for match in found]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(x.split(":")[1]) for x in head.lower().splitlines() if "content-length" in x), 0)
        self.asked.append(head + (await reader.readexactly(length)).decode())
        answer = self.answers.pop(0)
        writer.write(answer if isinstance(answer, bytes) else await answer())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def scripted(*answers: Answer) -> AsyncGenerator[tuple[Script, str]]:
    script = Script(*answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        yield script, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


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
        code, _, _ = await reprise(tmp_path, "run", "demo", "--input", '{"a": 2}', "--url", url)
    assert code == 0
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
