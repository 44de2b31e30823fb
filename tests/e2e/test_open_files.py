"""A server whose limit on open files is low: what it takes, and what it says."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.e2e.dev_run import REPRISE, environment
from tests.support.waiting import wait_until

READERS = 80
USED_UP = "files that this process may open are used up"


@asynccontextmanager
async def limited(folder: Path, redis_url: str, limits: str) -> AsyncGenerator[tuple[int, Path, int]]:
    """A server that a shell with `ulimit` started; its pid, what it says, and its port."""
    said = folder / "said"
    with said.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", f'{limits} && exec "$0" server --port 0', REPRISE),
            cwd=folder,
            env=environment({"REPRISE_REDIS_URL": redis_url, "REPRISE_DRAIN_SECONDS": "0.1"}),
            stderr=output,
        )
    try:
        found = await wait_until(
            lambda: re.search(r"serving on http://[^:]+:(\d+)", said.read_text()), description="it serves", timeout=90
        )
        assert found
        yield process.pid, said, int(found[1])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_a_server_takes_as_many_open_files_as_it_may(tmp_path: Path, redis_url: str):
    async with limited(tmp_path, redis_url, "ulimit -S -n 64 && ulimit -H -n 512") as (pid, said, _port):
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (512, 512)
        # Which is too few for what is the default.
        assert said.read_text().count("may open 512 files, too few for 10000 streams") == 1


async def test_a_server_that_runs_out_of_open_files_says_so_once(tmp_path: Path, redis_url: str):
    async with limited(tmp_path, redis_url, "ulimit -n 64") as (_pid, said, port), AsyncExitStack() as stack:
        for _ in range(READERS):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        await wait_until(lambda: USED_UP in said.read_text(), description="it says so", timeout=60)
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stack.callback(writer.close)
    assert said.read_text().count(USED_UP) == 1
