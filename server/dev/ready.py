"""When are server and workers ready, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import httpx

_POLL_SECONDS: Final = 0.05
#: A start that takes longer deserves a word about what it waits for.
_PATIENCE_SECONDS: Final = 10.0
#: A worker imports the task modules of a person, which may take a while or fail.
_WORKER_PATIENCE_SECONDS: Final = 5.0


async def wait_until_ready(url: str, say: Callable[[str], None]) -> None:
    """Return once the server at `url` calls itself ready; `say` once what it waits for if that takes long."""
    clock = asyncio.get_running_loop().time
    patience = clock() + _PATIENCE_SECONDS
    # trust_env off: a proxy for the outside world must not be asked for this machine.
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as http:
        while (reason := await _why_not(http)) is not None:
            if clock() > patience:
                patience = float("inf")
                say(f"still waiting for the server to be ready: {reason}")
            await asyncio.sleep(_POLL_SECONDS)


async def wait_until_offered(url: str) -> None:
    """Return once a worker offers a task at `url`, or after a while: the server is of use without."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as http:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WORKER_PATIENCE_SECONDS):
                while not await _offers(http):  # noqa: ASYNC110 (it does not call us)
                    await asyncio.sleep(_POLL_SECONDS)


async def _offers(http: httpx.AsyncClient) -> bool:
    try:
        answer = await http.get("/task-types")
        return answer.status_code == 200 and bool(answer.json()["task_types"])
    except (httpx.HTTPError, ValueError, LookupError):
        return False


async def _why_not(http: httpx.AsyncClient) -> str | None:
    try:
        answer = await http.get("/health/ready")
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    return None if answer.status_code == 200 else answer.text.strip() or f"status {answer.status_code}"
