"""Commands on a real server: what a caller may rely on beside the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from server.streams import calls
from server.streams.connections import AsyncClient, execute, execute_many, run
from server.streams.ids import ORIGIN
from server.streams.keys import Keys

WAYS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "a command": lambda client: execute(client, "PING"),
    "a pipeline": lambda client: execute_many(client, [("PING",), ("PING",)]),
    "a script": lambda client: run(client, calls.read(Keys(), "chat", first=ORIGIN, last=None, limit=0)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_caller_that_is_cancelled_while_redis_answers_ends_wherever_it_stands(client: AsyncClient, way: str):
    await WAYS[way](client)  # so that a connection is there
    for turns in range(12):
        asking = asyncio.ensure_future(WAYS[way](client))
        for _ in range(turns):
            await asyncio.sleep(0)
        if asking.cancel():
            with pytest.raises(asyncio.CancelledError):
                await asking
