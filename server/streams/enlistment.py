"""Putting a stream on the list of streams, by the lane of its writer: a program that writes streams has one connection.

It is asked for once and may fail: the stream can be read all the same, and is listed with its next generation, or once
somebody publishes to it over HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from server.streams import calls
from server.streams.calls import Call
from server.streams.errors import LogUnavailable
from server.streams.keys import Keys
from server.streams.lane import Lane
from server.streams.lanes import Lanes

_log = logging.getLogger(__name__)


class Enlistment:
    """A source of the lane with one thing to say. Belongs to the lane's event loop."""

    def __init__(self, lane: Lane | Lanes, keys: Keys, stream: str) -> None:
        self.key = keys.streams_index
        self._lane = lane
        self._stream = stream
        self._call: Call[int] | None = calls.enlist(keys, stream)
        self._done = asyncio.Event()

    def begin(self) -> None:
        self._lane.enlist(self, hurry=True)

    async def finished(self, *, within_seconds: float) -> None:
        """Wait until it is known what came of it, but not for ever."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._done.wait()
        except TimeoutError:
            self._call = None

    # What the lane calls.

    def next_call(self) -> Call[int] | None:
        call, self._call = self._call, None
        return call

    def heard(self, answer: Any) -> None:
        self._done.set()

    def failed(self, error: LogUnavailable) -> None:
        _log.info("The stream %s is not on the list of streams: %s", self._stream, error)
        self._done.set()

    def broke(self, error: Exception) -> None:
        _log.error("The stream %s is not on the list of streams", self._stream, exc_info=error)
        self._done.set()
