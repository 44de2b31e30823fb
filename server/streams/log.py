"""Shared logs: reading any stream, and publishing to those that several writers share.

Invariant: one publish takes effect once, however often it has to be sent; ids are given out by the script.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from server.streams import calls
from server.streams.calls import Call, Lifetimes, Reply, Snapshot
from server.streams.connections import AsyncClient, cluster_of, execute, execute_many, execute_packed, probe_writes, run
from server.streams.contact import write_probe
from server.streams.durability import Durability, run_durably
from server.streams.errors import Conflict, LogRefused, LogUnavailable, NotDurable, NotStored, StreamClosed
from server.streams.event import Draft, decode_entries
from server.streams.ids import ORIGIN, EventId
from server.streams.jitter import jitter
from server.streams.keys import Keys
from server.streams.names import task_of_stream
from server.streams.refusing import WITHOUT_EFFECT
from server.streams.seek import Search
from server.streams.sign import SIGN_FIELDS, Sign

#: A token made here guards against our own repeats only; the caller's against the caller's, for a day.
_OWN_TOKEN_MS: Final = 60_000
CALLER_TOKEN_MS: Final = 86_400_000
_TRIES: Final = 5
#: No try begins later than this after the first. With a Redis that is frozen each takes five seconds, so there are two:
#: it ends below the patience of proxies and clients, who would not be told that the fate of their events is open.
_LATEST_TRY_SECONDS: Final = 7.5
#: Streams whose last id is remembered, some 200 bytes each; of one that was written longer ago a loss goes unmarked.
_MOST_KNOWN: Final = 10_000
#: The end of a log that is not there.
_NEVER: Final = str(ORIGIN).encode()


class Log:
    """Reads streams, and appends to shared ones."""

    def __init__(
        self,
        client: AsyncClient,
        keys: Keys,
        *,
        lifetimes: Lifetimes,
        max_events: int,
        max_bytes: int = 0,
        durability: Durability = Durability.FAST,
    ) -> None:
        self._client = client
        self.keys = keys
        self._lifetimes = lifetimes
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._durability = durability
        #: The last id given to this process per stream it publishes to, so that a loss in Redis is noticed.
        self._known: dict[str, EventId] = {}

    @property
    def retention_ms(self) -> int:
        """How long events of a shared stream are kept after the newest."""
        return self._lifetimes.retention_ms

    async def read(
        self,
        stream: str,
        *,
        first: EventId = ORIGIN,
        last: EventId | None = None,
        limit: int = 0,
        backwards: bool = False,
        with_marks: bool = False,
    ) -> Snapshot:
        """Look at a stream: up to `limit` events from `first` on, `first` included. Raises `LogUnavailable`.

        `limit=0` looks at the bounds and the record only: Redis takes COUNT 0 for "none" in XRANGE. `backwards`: from
        `last` on, `last` included, newest first. `with_marks`: also what compaction needs.
        """
        call = calls.read(
            self.keys, stream, first=first, last=last, limit=limit, backwards=backwards, with_marks=with_marks
        )
        snapshot = await run(self._client, call)
        if snapshot.last_id is None and task_of_stream(stream) is None:
            # A marker stands where there is no log. It need not be seen in the same step (see `calls.read` for why it
            # is not): whoever puts it there rings, and who looked just before looks again.
            values = await execute(self._client, "HMGET", self.keys.about(stream), *calls.END_FIELDS)
            found = calls.with_end(snapshot, values, (first, last, limit))
            if found.end is not None and not found.is_deleted:
                # The end of a log that has expired; or of one that was begun and ended between the two steps.
                again = await run(self._client, call)
                return found if again.last_id is None else again
            return found
        return snapshot

    async def find(self, stream: str, search: Search) -> EventId:
        """The cursor that a search of `server.streams.seek` finds, one entry at a time. Raises `LogUnavailable`."""
        key = self.keys.log(stream).encode()
        try:
            probe = next(search)
            while True:
                at = str(probe.at).encode()
                ends = (b"XREVRANGE", key, at, b"-") if probe.is_backwards else (b"XRANGE", key, at, b"+")
                [rows] = await execute_packed(self._client, [(*ends, b"COUNT", b"1")])
                found = decode_entries(rows)
                probe = search.send(found[0] if found else None)
        except StopIteration as end:
            return end.value

    async def ends_at(self, expected: Sequence[tuple[str, EventId]]) -> list[bool]:
        """Whether each of these logs ends with that very event, in one round trip. Raises `LogUnavailable`.

        Reading begins at the event itself: from behind it, a log that went back would look like one that is quiet.
        """
        asked = [(f"{last.generation}-{last.sequence}".encode(), stream) for stream, last in expected]
        commands = [(b"XRANGE", self.keys.log(stream), last, b"+", b"COUNT", b"2") for last, stream in asked]
        found = await execute_packed(self._client, commands)
        return [
            len(rows) == 1 and rows[0][0] == last if rows else last == _NEVER
            for rows, (last, _) in zip(found, asked, strict=True)
        ]

    async def signs(self, streams: Sequence[str]) -> list[Sign | None]:
        """Whether the writers of these tasks' streams live, in one round trip.

        Raises `LogUnavailable`, also where Redis takes no writes: their leases run out then, and say nothing.
        """
        if cluster_of(self._client):
            await probe_writes(self._client)  # each node has leases of its own
        records = [self.keys.record(task_of_stream(stream) or "") for stream in streams]
        commands = [("HMGET", record, *SIGN_FIELDS) for record in records]
        probe = write_probe(self.keys.unfinished_index)
        _, (seconds, microseconds), *found = await execute_many(self._client, [probe, ("TIME",), *commands])
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        return [Sign.decode(values, now_ms=now_ms) for values in found]

    async def publish(
        self,
        stream: str,
        drafts: Sequence[Draft],
        *,
        token: str | None = None,
        token_ms: int = CALLER_TOKEN_MS,
        may_be_lost: bool = False,
    ) -> list[EventId]:
        """Append to a shared stream and return the ids, once they are as durable as this installation wants it.

        `token_ms`: how long the token of the caller is remembered. `may_be_lost`: for what nobody waits for.
        Raises `Conflict` if the stream is closed or the token was used with other events, `NotDurable` if they are
        stored and nothing more, `NotStored` if Redis refused them, `LogUnavailable` if it stayed away: asking
        again with the same token is safe then.
        """
        durability = Durability.FAST if may_be_lost else self._durability
        ids: list[EventId] = []

        def heard(reply: Reply) -> None:
            nonlocal ids
            first = _accepted(stream, reply)
            ids = [EventId(first.generation, first.sequence + offset) for offset in range(len(drafts))]

        try:
            await self._append(stream, drafts, durability, heard, token=token, token_ms=token_ms)
        finally:
            if ids:  # also if they are not safe: readers may have seen them, and are told of a loss by the next event
                self._remember(stream, ids[-1])
        return ids

    async def close(self, stream: str, end: Draft) -> EventId:
        """End a shared stream with this event, or find that it has ended; returns the id of its end.

        Raises `Conflict` if it was deleted, `LogUnavailable` if Redis stayed away; asking again is safe.
        """
        ended = ORIGIN

        def heard(reply: Reply) -> None:
            nonlocal ended
            if reply.outcome != "closed":
                _accepted(stream, reply)
            ended = reply.id

        await self._append(stream, [end], self._durability, heard, is_terminal=True)
        self._remember(stream, ended)
        return ended

    async def _append(
        self,
        stream: str,
        drafts: Sequence[Draft],
        durability: Durability,
        heard: Callable[[Reply], None],
        *,
        token: str | None = None,
        token_ms: int = 0,
        is_terminal: bool = False,
    ) -> None:
        sent = token or secrets.token_hex(8)

        def build() -> Call[Reply]:
            return calls.publish(
                self.keys,
                stream,
                drafts,
                token=sent,
                token_ms=token_ms if token else _OWN_TOKEN_MS,
                # Drawn for each try: after a failover the same number would make the lost generation once more.
                entropy=secrets.randbelow(1000),
                known=self._known.get(stream),
                lifetimes=self._lifetimes,
                max_events=self._max_events,
                max_bytes=self._max_bytes,
                is_terminal=is_terminal,
            )

        await self._until_answered(build, durability, heard)

    def known(self, stream: str) -> EventId | None:
        """The last id given to this process, of a stream that it publishes to."""
        return self._known.get(stream)

    def _remember(self, stream: str, last: EventId) -> None:
        # Taken out and put in again: the one that was written longest ago is the first to be forgotten.
        self._known[stream] = max(self._known.pop(stream, ORIGIN), last)
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    async def _until_answered(
        self, build: Callable[[], Call[Reply]], durability: Durability, heard: Callable[[Reply], None]
    ) -> None:
        """Run the call until it is answered; `heard` is told of each answer, the last of which counts."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + _LATEST_TRY_SECONDS
        # Whether a try may have taken effect. Of a write and the wait behind it, a master that was demoted in
        # between refuses the wait alone.
        is_open = False
        certain = WITHOUT_EFFECT if durability.wait is None else WITHOUT_EFFECT - {"READONLY"}

        def hear(reply: Reply) -> None:
            nonlocal is_open
            is_open = True
            heard(reply)

        for attempt in range(1, _TRIES + 1):
            try:
                if durability.wait is None:
                    hear(await run(self._client, build()))
                else:
                    await run_durably(self._client, build, durability, heard=hear)
                return
            except (LogRefused, NotDurable):
                raise
            except LogUnavailable as error:
                is_open = is_open or error.code not in certain
                if attempt == _TRIES or clock() > give_up_at:
                    if not is_open:
                        raise NotStored(str(error), code=error.code) from error
                    raise
                await asyncio.sleep(jitter.uniform(0.5, 1) * 0.05 * 2**attempt)


def _accepted(stream: str, reply: Reply) -> EventId:
    """The first id of what was appended; raises what the outcome means otherwise."""
    if reply.outcome in {"stored", "repeated"}:
        return reply.id
    if reply.outcome == "deleted":
        raise deleted(stream)
    if reply.outcome == "closed":
        raise closed(stream)
    if reply.outcome == "conflict":
        raise Conflict("This idempotency key was used with other events. Use a new key for a new request.")
    raise exhausted(stream)


def closed(stream: str) -> StreamClosed:
    """The error for a stream that has its terminal event."""
    return StreamClosed(f"The stream {stream!r} is closed; nothing can be published to it any more.")


def deleted(stream: str) -> StreamClosed:
    """The error for a stream that was deleted, while that is remembered."""
    return StreamClosed(
        f"The stream {stream!r} was deleted; nothing can be published to it until somebody creates it anew "
        f"(PUT /streams/{stream})."
    )


def exhausted(stream: str) -> Conflict:
    """The error for a stream whose ids are used up."""
    return Conflict(
        f"The stream {stream!r} holds an id too large to count on from. Delete it, and create it anew, to use "
        "the name again."
    )
