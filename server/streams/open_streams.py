"""Shared streams as programs use them over HTTP: published to, made with settings, looked at, closed, deleted, listed.

Owns the order of what lies in two slots: the stream first, then its name on the index. Knows nothing of who asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from server.streams import calls
from server.streams.calls import About, Call, Configured, Lifetimes, Reply, T
from server.streams.connections import AsyncClient, run
from server.streams.durability import Durability, run_durably
from server.streams.errors import Unknown
from server.streams.event import DELETED_END, Draft
from server.streams.ids import EventId
from server.streams.keys import Keys
from server.streams.log import Log
from server.streams.retention import Retention
from server.streams.stream_index import StreamIndex, enlist


class OpenStreams:
    """Every way to change a shared stream, and to look at any. Raises `LogUnavailable` from each method.

    What returns is as durable as this installation wants it. The caller has looked whether the stream is Reprise's own.
    """

    def __init__(
        self,
        client: AsyncClient,
        keys: Keys,
        log: Log,
        *,
        lifetimes: Lifetimes,
        max_events: int,
        max_bytes: int,
        durability: Durability = Durability.FAST,
    ) -> None:
        self._client = client
        self._keys = keys
        self._log = log
        self._lifetimes = lifetimes
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._durability = durability
        self.index = StreamIndex(client, keys)

    async def publish(self, stream: str, drafts: Sequence[Draft], *, token: str | None) -> list[EventId]:
        """Append all of these events or none; see `Log.publish`."""
        ids = await self._log.publish(stream, drafts, token=token)
        if ids[0].sequence == 0:  # it began a generation, and so perhaps the stream
            await enlist(self._client, self._keys, stream)
        return ids

    async def close(self, stream: str, end: Draft) -> EventId:
        """End a stream, or find that it has ended; see `Log.close`."""
        last = await self._log.close(stream, end)
        if last.sequence == 0:
            await enlist(self._client, self._keys, stream)
        return last

    async def create(self, stream: str, retention: Retention) -> Configured:
        """Give a stream settings of its own, once, whether or not it has events. A deleted one begins anew."""

        def build() -> Call[Configured]:
            return calls.configure(
                self._keys, stream, retention, lifetimes=self._lifetimes, max_events=self._max_events
            )

        found = await self._run(build)
        if found.outcome != "differs":
            await enlist(self._client, self._keys, stream)
        return found

    async def delete(self, stream: str) -> None:
        """Delete a stream; repeating it changes nothing. Raises `Unknown` if there is none."""

        def build() -> Call[Reply]:
            return calls.erase(
                self._keys,
                stream,
                DELETED_END,
                entropy=secrets.randbelow(1000),
                known=self._log.known(stream),
                lifetimes=self._lifetimes,
            )

        def heard(reply: Reply) -> None:
            if reply.outcome == "missing":
                raise unknown(stream)

        await self._run(build, heard)

    async def about(self, stream: str) -> About:
        """What there is to say about a stream, a task's too. Raises `Unknown` if there is none."""
        found = await run(self._client, calls.about(self._keys, stream))
        if not found.is_known:
            raise unknown(stream)
        return found

    def effective(self, own: Retention | None) -> Retention:
        """What holds for a stream with these settings: where it says nothing, those of the installation."""
        given = own or Retention()
        most = 1 if given.keep == "latest" else given.max_events or self._max_events or None
        return Retention(most, given.ttl_ms or self._lifetimes.retention_ms, given.keep)

    @property
    def max_bytes(self) -> int:
        """What a log may occupy, 0 for no limit."""
        return self._max_bytes

    async def _run(self, build: Callable[[], Call[T]], heard: Callable[[T], None] | None = None) -> T:
        """`heard` raises for a reply that is an error: nothing is waited for then."""
        if self._durability.wait is not None:
            return await run_durably(self._client, build, self._durability, heard=heard)
        reply = await run(self._client, build())
        if heard:
            heard(reply)
        return reply


def unknown(stream: str) -> Unknown:
    """The error for a stream that nobody has written yet, or that is gone."""
    return Unknown(f"There is no stream {stream!r}. Nothing was published to it yet, or it has expired or was deleted.")
