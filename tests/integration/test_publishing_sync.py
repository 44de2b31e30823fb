"""`open_stream_sync`: threads, forks, and the end of the process."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from server.streams.connections import connect, execute
from server.streams.keys import Keys
from tests.support.log_hand import Hand
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from workers import InvalidInput, LogUnavailable, StreamClosed, open_stream_sync

ROOT = Path(__file__).parents[2]
_HELD_UP = re.compile(r"^Executing <.*> took [0-9.]+ seconds\n", re.MULTILINE)


async def stored(hand: Hand, name: str = "chat.42") -> list[tuple[str, object]]:
    return [(event.type, json.loads(event.data)) for event in await hand.log(name)]


def run_program(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, with warnings shown, but for asyncio's of a callback that a busy machine held up."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-X", "dev", "-c", text, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    done.stderr = _HELD_UP.sub("", done.stderr)
    return done


async def test_it_writes_what_its_twin_writes(redis_url: str, hand: Hand) -> None:
    with open_stream_sync(redis_url, "chat.42") as stream:
        stream.emit("hello", {"n": 1})
        stream.token("a")
        stream.thought("b")
        stream.log("c")
        stream.progress(1, 4, "d")
        stream.emit("price", 7, key="gold")
        stream.append("answer", "Hel")
        middle = stream.flush()
        end = stream.complete({"n": 5})
    assert await stored(hand) == [
        ("hello", {"n": 1}),
        ("token", {"text": "a"}),
        ("thought", {"text": "b"}),
        ("log", {"message": "c"}),
        ("progress", {"step": 1, "total_steps": 4, "message": "d", "percentage": 25}),
        ("price", 7),
        ("answer", {"text": "Hel"}),
        ("complete", {"result": {"n": 5}}),
    ]
    ids = [str(event.id) for event in await hand.log("chat.42")]
    assert (middle, end, stream.last_id) == (ids[6], ids[7], ids[7])
    with open_stream_sync(redis_url, "other") as stream:
        stream.fail("it broke", code="broken")
    assert await stored(hand, "other") == [("error", {"error": "it broke", "code": "broken"})]


async def test_many_threads_share_a_handle_and_each_keeps_its_order(redis_url: str, hand: Hand) -> None:
    with open_stream_sync(redis_url, "chat.42") as stream:

        def write(name: int) -> None:
            for number in range(200):
                stream.emit("n", [name, number])

        threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = await hand.log("chat.42")
    assert [event.id.sequence for event in events] == list(range(1600))
    pairs = [json.loads(event.data) for event in events]
    for name in range(8):
        assert [number for writer, number in pairs if writer == name] == list(range(200))


async def test_all_streams_of_a_process_share_one_thread_and_one_connection(redis_url: str, hand: Hand) -> None:
    for number in range(3):
        with open_stream_sync(redis_url, "a") as a, open_stream_sync(redis_url, "b") as b:
            a.emit("n", number)
            b.emit("n", number)
    assert [thread.name for thread in threading.enumerate()].count("reprise streams") == 1

    async def is_one() -> bool:  # of coroutines, some that were closed just now may be listed still
        listed: bytes = await execute(hand.client, "CLIENT", "LIST")
        return listed.count(b" name=reprise-stream ") == 1

    await wait_until(is_one, description="there is one connection")


async def test_an_exception_leaves_the_block_after_what_was_emitted_is_stored(redis_url: str, hand: Hand) -> None:
    stream = open_stream_sync(redis_url, "chat.42")

    def break_off() -> None:
        with stream:
            stream.emit("n", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert await stored(hand) == [("n", 1)]
    with pytest.raises(StreamClosed, match="is closed"):
        stream.emit("n", 2)


def test_what_cannot_be_stored_is_told_at_the_end_of_the_block(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"
    with (
        pytest.raises(LogUnavailable, match=r"1 event\(s\) of the stream 'chat.42' are given up"),
        open_stream_sync(nowhere, "chat.42", patience_seconds=0.2) as stream,
    ):
        stream.emit("n", 1)


async def test_threads_wait_while_redis_is_away_and_much_is_unsent_and_go_on_without_loss(keys: Keys) -> None:
    with closing(RedisServer()) as server, open_stream_sync(server.url, "chat.42") as stream:
        emitted = 0

        def write() -> None:
            nonlocal emitted
            for number in range(6000):
                stream.emit("n", number)
                emitted += 1

        thread = threading.Thread(target=write)
        thread.start()
        await wait_until(lambda: emitted >= 4000, description="the writer is full")
        thread.join(0.2)
        assert thread.is_alive()
        assert emitted <= 4501
        server.start()
        await asyncio.to_thread(thread.join)
        stream.flush()
        client = connect(server.url, name="own")
        assert await stored(Hand(client, keys)) == [("n", number) for number in range(6000)]
        await client.aclose()


async def test_what_a_thread_emits_beside_the_end_of_the_stream_is_stored_before_it_or_refused(
    redis_url: str, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = 0

    def write() -> None:
        nonlocal accepted
        while True:
            stream.emit("n", accepted)
            accepted += 1

    with ThreadPoolExecutor(1) as pool, suppress(StreamClosed), open_stream_sync(redis_url, "chat.42") as stream:
        writing = pool.submit(write)
        await wait_until(lambda: accepted > 1000, description="the thread is busy")
        await asyncio.to_thread(stream.complete)
        with pytest.raises(StreamClosed):
            writing.result(60)
    found = await stored(hand)
    lost = sum(int(count) for count in re.findall(r"(\d+) event\(s\) that a thread had emitted are lost", caplog.text))
    assert found[-1] == ("complete", {"result": None})
    assert [data for _, data in found[:-1]] == list(range(accepted - lost))


def test_misuse_is_refused_as_by_its_twin(redis_url: str) -> None:
    with pytest.raises(InvalidInput, match="Reprise's own"):
        open_stream_sync(redis_url, "tasks.x")
    stream = open_stream_sync(redis_url, "chat.42")
    with pytest.raises(StreamClosed, match="not open yet"):
        stream.emit("n", 1)


FORKS = """
import os, sys
from workers import StreamClosed, open_stream_sync

url = sys.argv[1]
with open_stream_sync(url, "chat.42") as stream:
    stream.emit("n", "parent, before")
    stream.flush()
    child = os.fork()
    if child == 0:
        try:
            stream.emit("n", "never")
        except StreamClosed as error:
            print(error, flush=True)
        with open_stream_sync(url, "chat.42") as own:
            own.emit("n", "child")
        os._exit(0) if sys.argv[2] == "hard" else sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    stream.emit("n", "parent, after")
print("the parent is done")
"""


@pytest.mark.parametrize("end", ["hard", "soft"])
async def test_a_forked_child_opens_its_own_and_is_told_that_the_handle_it_inherited_is_its_parents(
    redis_url: str, hand: Hand, end: str
) -> None:
    done = run_program(FORKS, redis_url, end)
    assert done.returncode == 0, done.stderr
    assert "was opened in process" in done.stdout
    assert "Open the stream after the fork; in Celery, inside the task." in done.stdout
    assert "the parent is done" in done.stdout
    assert await stored(hand) == [("n", "parent, before"), ("n", "child"), ("n", "parent, after")]


async def test_a_program_ends_at_once_and_without_a_word_after_its_last_event(redis_url: str, hand: Hand) -> None:
    text = """
import sys
from workers import open_stream_sync
with open_stream_sync(sys.argv[1], "chat.42") as stream:
    for number in range(1000):
        stream.emit("n", number)
"""
    done = run_program(text, redis_url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert await stored(hand) == [("n", number) for number in range(1000)]


async def test_a_program_that_exits_inside_the_block_stores_what_it_emitted(redis_url: str, hand: Hand) -> None:
    text = """
import sys
from workers import open_stream_sync
with open_stream_sync(sys.argv[1], "chat.42") as stream:
    stream.emit("n", 1)
    sys.exit(3)
"""
    done = run_program(text, redis_url)
    assert (done.returncode, done.stderr) == (3, "")
    assert await stored(hand) == [("n", 1)]
