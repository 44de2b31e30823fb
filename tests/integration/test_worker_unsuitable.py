"""A worker whose Redis cannot do what REPRISE_DURABILITY asks for: it says so, and leaves all work to others."""

from __future__ import annotations

import signal
from typing import Any

from server.streams.connections import connect, execute
from server.streams.keys import Keys
from server.streams.ready import GROUP
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.working import LEASE_SECONDS, Bench, WorkerProcess


async def test_a_worker_that_cannot_make_events_as_safe_as_asked_takes_no_task_over_until_it_can(keys: Keys) -> None:
    with RedisServer() as own:
        client = connect(own.url, name="test")
        bench = Bench(client, keys)
        with WorkerProcess(own.url, durability="fsync") as unable, WorkerProcess(own.url) as able:
            await unable.says("REPRISE_DURABILITY is 'fsync', and this Redis has no append-only file.")
            await able.says("is ready")
            task_id = await bench.create("wait")
            await bench.has_emitted(task_id, "waiting")
            able.send(signal.SIGKILL)
            ready = keys.ready("default", "wait")

            async def is_left() -> bool:
                consumers: list[dict[bytes, Any]] = await execute(client, "XINFO", "CONSUMERS", ready, GROUP)
                return any(each[b"pending"] and each[b"idle"] > 4000 * LEASE_SECONDS for each in consumers)

            await wait_until(is_left, description="nobody has touched it for four leases")
            assert (await bench.types(task_id)).count("attempt") == 1
            assert not unable.has_said("is ready")
            own.command("CONFIG", "SET", "appendonly", "yes")
            await bench.has_emitted(task_id, "attempt", count=2)
            await bench.store.cancel(task_id)
            await bench.end(task_id)
        await client.aclose()
