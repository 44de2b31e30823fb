"""Write a stream from coroutines, such as the functions of an arq worker.

arq coroutine.Worker
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from workers import open_stream


async def model(prompt: str) -> AsyncIterator[str]:
    for word in f"You said: {prompt}".split():
        await asyncio.sleep(0.01)
        yield word + " "


async def reply(ctx: dict[str, Any], name: str, prompt: str) -> None:
    async with open_stream(ctx["stream_url"], name) as stream:
        async for text in model(prompt):
            await stream.token(text)
        await stream.complete()


async def begin(ctx: dict[str, Any]) -> None:
    ctx["stream_url"] = os.environ["REDIS_URL"]


class Worker:
    functions = [reply]
    on_startup = begin
