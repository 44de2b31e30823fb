"""`reprise dev`: everything on one machine, kept alive, and gone afterwards."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.dev_run import REPRISE, dev_run, environment, is_alive, reprise
from tests.support.http import http_client
from tests.support.redis_server import server_binary
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


async def test_one_command_finishes_a_task_and_leaves_nothing_behind(tmp_path: Path):
    async with dev_run(tmp_path) as run:
        await run.ready()
        code, out, errors = await reprise(tmp_path, "run", "countdown", "--input", '{"seconds": 1}', "--url", run.url)
        assert code == 0, errors
        assert out.endswith("\n")
        pids = run.pids()
        assert await run.stop() == 0
        assert [pid for pid in pids if is_alive(pid)] == []
    assert "Traceback" not in run.text, run.text
    stopped = [line.split()[-2] for line in run.lines if line.endswith(" stopped")]
    assert stopped == ["worker", "server", "valkey", "all"]


async def test_the_page_is_served(tmp_path: Path):
    async with dev_run(tmp_path, "--ephemeral") as run:
        await run.ready()
        async with http_client(run.url, timeout=30) as http:
            answer = await http.get("/")
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("name", ["server", "worker", "valkey"])
async def test_a_killed_process_is_back_within_seconds(name: str, tmp_path: Path):
    async with dev_run(tmp_path) as run:
        await run.ready()
        before = run.pids(name)[0]
        os.kill(before, signal.SIGKILL)
        await run.came_back(name, after=before)
        code, _, errors = await reprise(tmp_path, "run", "countdown", "--input", '{"seconds": 1}', "--url", run.url)
    assert code == 0, errors + run.text
    assert f"{name} was ended by SIGKILL" in run.text


@pytest.mark.parametrize("name", ["server", "valkey"])
async def test_a_task_is_followed_across_the_death_of(name: str, tmp_path: Path):
    async with dev_run(tmp_path) as run:
        await run.ready()
        follower = asyncio.create_task(
            reprise(tmp_path, "run", "countdown", "--input", '{"seconds": 5}', "--url", run.url)
        )
        await wait_until(lambda: _has_tasks(run.url), description="the task has begun", timeout=60)
        before = run.pids(name)[0]
        os.kill(before, signal.SIGKILL)
        code, _, errors = await follower
    assert code == 0, errors + run.text
    ticks = [line for line in errors.splitlines() if line.startswith("tick ")]
    assert ticks == [f'tick {{"remaining": {left}}}' for left in (5, 4, 3, 2, 1)]


async def _has_tasks(url: str) -> bool:
    async with http_client(url, timeout=30) as http:
        return "running" in (await http.get("/tasks")).text


async def test_data_is_kept_from_one_run_to_the_next(tmp_path: Path):
    async with dev_run(tmp_path) as run:
        await run.ready()
        async with http_client(run.url, timeout=30) as http:
            created = await http.post("/tasks", json={"type": "process", "execute": False})
    async with dev_run(tmp_path) as run:
        await run.ready()
        async with http_client(run.url, timeout=30) as http:
            found = await http.get(f"/tasks/{created.json()['id']}")
    assert found.json()["type"] == "process"


async def test_an_ephemeral_run_keeps_nothing(tmp_path: Path):
    async with dev_run(tmp_path, "--ephemeral", "--workers", "0") as run:
        await run.ready()
        assert run.pids("worker") == []
        assert await run.stop(signal.SIGTERM) == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_second_run_in_the_same_folder_says_so(tmp_path: Path):
    async with dev_run(tmp_path, "--workers", "0") as run:
        await run.ready()
        code, out, errors = await reprise(tmp_path, "dev", "--port", "0")
        assert (code, out) == (1, "")
        assert errors.startswith("reprise: `reprise dev` already runs in ")
        assert f"(process {run.process.pid})" in errors
        assert await run.is_healthy()


async def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, out, errors = await reprise(tmp_path, "dev", "--port", str(port))
    expected = f"reprise: Port {port} on 127.0.0.1 is taken by another program. "
    assert (code, out, errors) == (1, "", f"{expected}Stop it, or choose another with --port.\n")


async def test_a_misspelt_setting_stops_the_start(tmp_path: Path):
    code, out, errors = await reprise(tmp_path, "dev", settings={"REPRISE_PROT": "1"})
    expected = "reprise: REPRISE_PROT is not a setting of Reprise. Did you mean REPRISE_PORT?\n"
    assert (code, out, errors) == (2, "", expected)


async def test_a_setting_that_a_worker_refuses_ends_the_run_instead_of_repeating_it(tmp_path: Path):
    async with dev_run(tmp_path, settings={"REPRISE_CONCURRENCY": "many"}) as run:
        assert await run.ended() == 2
    assert run.text.count("REPRISE_CONCURRENCY is 'many'") == 1


async def test_a_task_module_that_no_worker_can_load_ends_the_run(tmp_path: Path):
    async with dev_run(tmp_path, "--tasks", "nope_mod") as run:
        assert await run.ended() == 2
    assert run.text.count("There is no module 'nope_mod'") == 1
    assert "Reprise is ready" not in run.text


async def test_children_do_not_outlive_a_killed_run_and_the_next_one_starts(tmp_path: Path):
    async with dev_run(tmp_path) as run:
        await run.ready()
        run.process.kill()
        await wait_until(
            lambda: not any(is_alive(pid) for pid in run.pids()), description="all children gone", timeout=60
        )
    async with dev_run(tmp_path, "--workers", "0") as run:
        await run.ready()


async def test_a_valkey_left_behind_is_replaced(tmp_path: Path):
    folder = tmp_path / ".reprise"
    (folder / "data").mkdir(parents=True)
    left = await asyncio.create_subprocess_exec(
        *(server_binary(), "--port", "0", "--unixsocket", str(folder / "valkey.sock")),
        *("--dir", str(folder / "data"), "--appendonly", "yes"),
        stdout=asyncio.subprocess.DEVNULL,
        env=environment(None),
    )
    await wait_until((folder / "valkey.sock").exists, description="the server left behind listens")
    async with dev_run(tmp_path, "--workers", "0") as run:
        await run.ready()
        assert f"stopped the valkey of an earlier run (pid {left.pid})" in run.text
    assert await left.wait() == 0


@pytest.mark.parametrize("name", ["deep" * 30, "with space & 100%41"])
async def test_a_folder_of_any_name_works_also_where_a_socket_could_not_be(name: str, tmp_path: Path):
    folder = tmp_path / name
    folder.mkdir()
    async with dev_run(folder, "--workers", "0") as run:
        await run.ready()
    assert (folder / ".reprise" / "data").is_dir()


async def test_a_redis_that_is_there_is_used(tmp_path: Path, redis_url: str):
    settings = {"REPRISE_REDIS_URL": redis_url}
    async with dev_run(tmp_path, "--workers", "0", settings=settings) as run:
        await run.ready()
        assert run.pids("valkey") == []
        assert redis_url in run.text
    assert not (tmp_path / ".reprise").exists()


async def test_ctrl_c_twice_stops_at_once(tmp_path: Path):
    async with dev_run(tmp_path, "--workers", "0", settings={"REPRISE_DRAIN_SECONDS": "3600"}) as run:
        await run.ready()
        server = run.pids("server")[0]
        os.kill(server, signal.SIGSTOP)  # it will not hear a wish to stop
        run.process.send_signal(signal.SIGINT)
        await run.said("stopping")
        assert await run.stop() == 0
    assert "server is killed: as asked" in run.text


async def test_help_of_a_worker_is_that_of_the_worker(tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        REPRISE, "worker", "--help", cwd=tmp_path, env=environment(None), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert "--concurrency" in out.decode()
