"""Addresses of Redis that lead nowhere, or to the wrong place: refused at the start, or told without a secret."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.streams.connections import connect, execute
from server.streams.errors import LogUnavailable
from server.streams.suitability import examine
from tests.e2e.dev_run import environment
from tests.support.certificates import make_certificates, needs_tls
from tests.support.ports import unused_port
from tests.support.redis_node import RedisNode
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.web import Web, serving
from tests.support.working import WorkerProcess


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def sentinel() -> Iterator[RedisNode]:
    """One that watches over nobody."""
    node = RedisNode(words=["--sentinel"])
    node.start()
    yield node
    node.close()


@pytest.fixture
def plain_node() -> Iterator[RedisNode]:
    """At a port, which knows nothing of a Cluster or of TLS."""
    node = RedisNode()
    node.start()
    yield node
    node.close()


@pytest.mark.parametrize("module", ["server", "workers"])
@pytest.mark.parametrize(
    ("url", "offence"),
    [
        ("redis://:hush@127.0.0.1:1/0?ssl_ca_certs=/ca.pem", "ssl_ca_certs"),
        ("rediss://:hush@127.0.0.1:1?ssl_ca_certs=/absent", "ssl_ca_certs"),
        ("redis://:hush@127.0.0.1:1/1?db=2", "two databases"),
    ],
)
def test_an_option_that_cannot_work_ends_the_start_with_2_and_one_sentence(
    module: str, url: str, offence: str, tmp_path: Path
):
    env = environment({"REPRISE_REDIS_URL": url, "PYTHONPATH": str(Path(__file__).parents[2])})
    ended = subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("reprise: REPRISE_REDIS_URL ")
    assert offence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "hush" not in ended.stderr


async def test_a_database_that_is_not_there_is_told_with_its_setting(own_redis: RedisServer):
    client = connect(f"{own_redis.url}?db=99", name="test")
    with pytest.raises(LogUnavailable, match="must be below its setting 'databases'") as refused:
        await execute(client, "PING")
    assert "bug" not in str(refused.value)
    await client.aclose()


async def test_a_database_that_is_not_there_makes_requests_wait_and_is_no_fault_of_the_server(plain_node: RedisNode):
    async with serving(f"redis://{plain_node.address}/99") as web:
        (reason,) = await reasons_of(web)
        assert reason.startswith("Redis refuses: NODB. It has no database of that number")
        published = await web.client.post("/streams/chat/events", json={"type": "note", "data": 1})
        assert (published.status_code, "(NODB)" in published.json()["detail"]) == (503, True)
        assert (await web.client.get("/streams/chat")).status_code == 503


async def test_a_plain_redis_in_the_place_of_a_cluster_is_told_with_the_form_that_it_needs(plain_node: RedisNode):
    async with serving(f"redis+cluster://{plain_node.address}") as web:
        (reason,) = await reasons_of(web)
        assert reason.startswith(
            "Redis refuses: NOCLUSTER. It is no node of a Cluster: begin REPRISE_REDIS_URL with redis:"
        )
        assert (await web.client.get("/streams/chat")).status_code == 503


async def test_a_redis_that_is_silent_where_tls_is_asked_for_is_told_with_the_form_without_it(
    plain_node: RedisNode, caplog: pytest.LogCaptureFixture
):
    async with serving(f"rediss://{plain_node.address}") as web:
        told = "If it speaks no TLS, which REPRISE_REDIS_URL asks for, begin that with redis://."
        assert await reasons_of(web) == [f"Redis does not answer. {told}"]
        await wait_until(lambda: any(told in line for line in caplog.messages), description="the log says so too")


@needs_tls
@pytest.mark.parametrize(
    ("url", "way_out"),
    [
        ("rediss://127.0.0.1:{port}", "name who has with ssl_ca_certs= in REPRISE_REDIS_URL."),
        ("rediss://localhost:{port}?ssl_ca_certs={authority}", "Name it in REPRISE_REDIS_URL as its certificate does"),
        ("redis://127.0.0.1:{port}", "If it speaks TLS, begin REPRISE_REDIS_URL with rediss://."),
    ],
)
async def test_a_redis_that_speaks_tls_is_told_with_what_the_url_lacks(
    url: str, way_out: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    certificates = make_certificates(tmp_path)
    node = RedisNode(tls=certificates)
    node.start()
    try:
        async with serving(url.format(port=node.port, authority=certificates.authority)):
            told = "Redis cannot be reached"
            await wait_until(lambda: any(told in line for line in caplog.messages), description="the log tells")
        (line,) = [line for line in caplog.messages if told in line]
        assert way_out in line
        assert "speaks no TLS" not in line
    finally:
        node.close()


async def test_a_worker_says_what_to_mend_where_its_url_names_a_wrong_master_or_no_sentinel(
    sentinel: RedisNode, plain_node: RedisNode
):
    for address, way_out in [
        (sentinel.address, "No such master with that name. In REPRISE_REDIS_URL write the name that"),
        (plain_node.address, "REPRISE_REDIS_URL names a Redis where it should name sentinels"),
    ]:
        with WorkerProcess(f"redis+sentinel://{address}/wrong") as worker:
            await worker.says("The worker waits for Redis: ")
            assert worker.has_said(way_out)
            assert not worker.has_said("says where it is")


async def test_a_worker_that_finds_nobody_says_which_setting_leads_there():
    with WorkerProcess(f"redis://127.0.0.1:{unused_port()}") as worker:
        await worker.says("The worker waits for Redis: ")
        assert worker.has_said(". REPRISE_REDIS_URL says where it is; with `reprise dev` running, set it to the URL")


async def test_a_sentinel_in_the_place_of_redis_is_told_with_the_form_that_it_needs(sentinel: RedisNode):
    client = connect(f"redis://{sentinel.address}", name="test")
    (sentence,) = (await examine(client)).refusals
    assert sentence.endswith("Name it as redis+sentinel://host:26379/name-of-the-master in REPRISE_REDIS_URL.")
    with pytest.raises(LogUnavailable, match=r"A Sentinel has none of them: name it as redis\+sentinel://"):
        await execute(client, "XLEN", "key")
    await client.aclose()


# What readiness says of it, to whoever asks: no host, no user, no file.


async def reasons_of(web: Web) -> list[str]:
    response = await web.client.get("/health/ready")
    return response.json().get("reasons", [])


async def test_readiness_says_that_the_sentinels_know_no_such_master(sentinel: RedisNode):
    async with serving(f"redis+sentinel://{sentinel.address}/elsewhere") as web:
        assert await reasons_of(web) == [
            "Redis does not answer. The sentinels know no master 'elsewhere', which REPRISE_REDIS_URL names."
        ]


async def test_readiness_says_that_no_sentinel_answers(sentinel: RedisNode):
    sentinel.kill()
    async with serving(f"redis+sentinel://{sentinel.address}/elsewhere") as web:
        assert await reasons_of(web) == ["Redis does not answer. No sentinel answers."]


async def test_readiness_says_that_the_sentinels_refuse_the_password():
    sentinel = RedisNode("requirepass hush", words=["--sentinel"], credentials={"password": "hush"})
    sentinel.start()
    for options in ("", "?sentinel_password=wrong"):
        async with serving(f"redis+sentinel://{sentinel.address}/elsewhere{options}") as web:
            (reason,) = await reasons_of(web)
            assert reason.startswith("Redis does not answer. The sentinels refuse user or password")
    sentinel.close()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("username=app&password=hush", "Redis refuses: WRONGPASS. User and password in REPRISE_REDIS_URL, or in its"),
        ("db=99", "Redis refuses: NODB. It has no database of that number: the one in REPRISE_REDIS_URL must be below"),
    ],
)
async def test_readiness_says_what_redis_refuses(own_redis: RedisServer, given: str, reason: str):
    async with serving(f"{own_redis.url}?{given}") as web:
        (told,) = await reasons_of(web)
        assert told.startswith(reason)
        assert not {"hush", "app"} & set(told.split())


async def test_readiness_says_that_redis_wants_a_password(own_redis: RedisServer):
    own_redis.command("CONFIG", "SET", "requirepass", "hush")
    async with serving(own_redis.url) as web:
        assert await reasons_of(web) == ["Redis refuses: NOAUTH. REPRISE_REDIS_URL has no password, and it wants one."]


# And of a Redis that takes no writes.


@pytest.mark.parametrize(
    ("setting", "bad", "good", "code"),
    [("min-replicas-to-write", "1", "0", "NOREPLICAS"), ("maxmemory", "1", "0", "OOM")],
)
async def test_a_server_says_once_that_redis_takes_no_writes_why_and_that_it_takes_them_again(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture, setting: str, bad: str, good: str, code: str
):
    caplog.set_level("INFO", logger="server.streams.outage")

    def said() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.name == "server.streams.outage"]

    async with serving(own_redis.url) as web:
        await web.until_ready()
        own_redis.command("CONFIG", "SET", setting, bad)
        for _ in range(3):
            assert (await web.client.post("/tasks", json={"type": "free"})).status_code == 503
        await wait_until(lambda: len(said()) == 1, description="it is said", timeout=10)
        assert await reasons_of(web) == []  # readers are served
        own_redis.command("CONFIG", "SET", setting, good)
        await wait_until(lambda: len(said()) == 2, description="its end is said", timeout=10)
    assert said()[0].startswith(f"Redis takes no writes ({code}): Redis refused: {code} ")
    assert said()[1].startswith("Redis takes writes again; the outage took ")
    others = [each.getMessage() for each in caplog.records if each.name != "server.streams.outage"]
    assert [each for each in others if code in each] == []
