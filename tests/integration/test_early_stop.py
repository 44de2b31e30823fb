"""A stop that is asked for while a process still starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.dev_run import environment
from tests.support.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["server", "workers"])
async def test_a_process_that_is_told_to_stop_before_it_has_started_leaves_with_0_and_without_a_word(
    module: str, number: signal.Signals, tmp_path: Path
):
    secret = tmp_path / "password"
    os.mkfifo(secret)  # whoever reads it waits for what is never written
    settings = {
        "REPRISE_REDIS_URL": f"redis://127.0.0.1:1/0?password_file={secret}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def opened() -> int | None:
        with suppress(OSError):
            return os.open(secret, os.O_WRONLY | os.O_NONBLOCK)
        return None

    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=tmp_path,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        writer = await wait_until(opened, description="it reads its settings", timeout=60)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, b"")
        os.close(writer or 0)
    finally:
        process.kill()
        process.wait()
