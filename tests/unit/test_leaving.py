"""A request that is cancelled: by the end of a drain it is no error, at any other time it is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from server.web.leaving import LastAnswers


async def never_ends(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def cancelled(*, is_draining: Callable[[], bool], kind: str = "http") -> None:
    async def unused(*_: object) -> Any:
        raise AssertionError("Nothing is received or sent.")

    app = LastAnswers(never_ends, is_draining=is_draining)
    request = asyncio.ensure_future(app({"type": kind}, unused, unused))
    await asyncio.sleep(0)
    request.cancel()
    await request


async def test_a_request_that_outlives_the_drain_ends_without_an_error():
    answers = iter([False, True])  # the drain began while it was under way
    await cancelled(is_draining=lambda: next(answers))


@pytest.mark.parametrize(("kind", "is_draining"), [("http", False), ("lifespan", True)])
async def test_a_cancellation_of_anything_else_is_passed_on(kind: str, is_draining: bool):
    with pytest.raises(asyncio.CancelledError):
        await cancelled(is_draining=lambda: is_draining, kind=kind)
