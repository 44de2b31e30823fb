"""Looks that are taken for as long as the process lives."""

from __future__ import annotations

import asyncio

import hiredis
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from server.streams.topology.node import options_for
from server.streams.topology.watching import keep_looking


async def test_no_answer_ends_the_looks_and_an_unforeseen_one_is_logged(caplog: pytest.LogCaptureFixture):
    answers = [RedisConnectionError("away"), TimeoutError(), hiredis.ProtocolError("what?"), ValueError("odd"), None]
    looked = asyncio.Event()

    async def look() -> None:
        answer = answers.pop(0)
        if answer:
            raise answer
        looked.set()
        await asyncio.Event().wait()

    watch = asyncio.create_task(keep_looking(look, every_seconds=0.001, at="the sentinels"))
    await asyncio.wait_for(looked.wait(), 10)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["what?", "odd"]


def test_nobody_is_dialled_for_longer_than_its_answer_is_waited_for():
    def dials(socket_timeout: float | None) -> float:
        return options_for(None, name="test", socket_timeout=socket_timeout)["socket_connect_timeout"]

    assert (dials(1.0), dials(5.0), dials(None)) == (1.0, 2.0, 2.0)
