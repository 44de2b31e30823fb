"""What is found out about a Redis that does not answer everything."""

from __future__ import annotations

from typing import Any

import pytest

from server.streams.connections import connect, execute
from server.streams.errors import LogUnavailable
from server.streams.suitability import examine
from tests.support.fault_proxy import FaultProxy


async def test_nothing_is_said_of_a_redis_that_falls_silent_while_it_is_looked_at(redis_url: str):
    async with FaultProxy(redis_url) as proxy:

        async def fall_silent() -> None:
            proxy.go_down()

        asked = proxy.lose_request("CONFIG", meanwhile=fall_silent)
        client = connect(proxy.url, name="test")
        with pytest.raises(LogUnavailable):
            await examine(client)
        await client.aclose()
    assert asked.is_set()


async def test_who_may_not_see_the_settings_is_told_the_mildest_that_may_be_true(redis_url: str, client: Any):
    await execute(client, "ACL", "SETUSER", "guest", "reset", "on", ">secret", "+@all", "-config", "-client|info", "~*")
    guest = connect(redis_url.replace("unix://", "unix://guest:secret@"), name="test")
    found = await examine(guest)
    await guest.aclose()
    await execute(client, "ACL", "DELUSER", "guest")
    assert found.refusals == ()
    assert found.warnings == (
        "Redis loses what it wrote since its last snapshot when it is killed: 'appendonly' is not set.",
    )
