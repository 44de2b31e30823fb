"""A stream that any coroutine may write; `open_stream` is how programs with an event loop publish."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from workers import shapes
from workers.publishing.handle import Handle
from workers.publishing.options import DurabilityName, StreamOptions


def open_stream(
    redis_url: str,
    name: str,
    *,
    prefix: str = "reprise:",
    retention_seconds: float = 86_400,
    max_events: int = 10_000,
    max_stream_bytes: int = 64 << 20,
    max_event_bytes: int = 262_144,
    patience_seconds: float = 300,
    durability: DurabilityName = "fast",
) -> OpenStream:
    """A stream to write to, for `async with`.

        async with open_stream("redis://localhost:6379/0", "chat.42") as stream:
            await stream.token("Hello")

    Any number of programs may write one stream at the same time. `name` has up to 128 of A-Z a-z 0-9 . _ - and is none
    of Reprise's own (`system`, `tasks`, `tasks.…`). `prefix`, `retention_seconds` (after the last event), `max_events`,
    `max_stream_bytes`, `max_event_bytes` and `durability` are what the servers have as REPRISE_PREFIX,
    REPRISE_RETENTION_SECONDS, REPRISE_MAX_STREAM_EVENTS, REPRISE_MAX_STREAM_BYTES, REPRISE_MAX_EVENT_BYTES and
    REPRISE_DURABILITY; 0 keeps any number of events or bytes. `patience_seconds`: how long Redis may be away, or
    unable to promise that durability, before events are given up with `LogUnavailable`.

    Nothing is sent before the first event. Raises `InvalidInput` for an address, name or number that cannot be used.
    """
    return OpenStream(
        StreamOptions(
            redis_url,
            name,
            prefix=prefix,
            retention_seconds=retention_seconds,
            max_events=max_events,
            max_stream_bytes=max_stream_bytes,
            max_event_bytes=max_event_bytes,
            patience_seconds=patience_seconds,
            durability=durability,
        )
    )


class OpenStream:
    """A handle to one stream, for the coroutines of one event loop. Made by `open_stream`.

    Order: events are stored in the order of the calls, each once, also if Redis or the connection fails meanwhile.
    A call returns once its event is taken in; it waits only while 4,000 events or 4 MiB are not stored yet. At the end
    of the `async with` everything is stored; the stream stays open for others, unless `complete` or `fail` ended it.
    After an exception the same is tried for five seconds, and the exception goes on.

    Raises `InvalidInput` and `TooLarge` for an event that breaks a rule, `StreamClosed` for a stream or handle that has
    ended, `LogUnavailable` once Redis was away for longer than `patience_seconds`: the last two are final.
    """

    def __init__(self, options: StreamOptions) -> None:
        self._handle = Handle(options)

    @property
    def name(self) -> str:
        return self._handle.name

    @property
    def last_id(self) -> str | None:
        """The id of the last event of this handle that is known to be stored: a cursor for readers."""
        return self._handle.last_id

    async def __aenter__(self) -> Self:
        self._handle.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle.is_open_here:  # else what it holds belongs to the process that opened it
            await self._handle.leave(is_failing=kind is not None)

    async def emit(self, type: str, data: Any = None, *, key: str | None = None) -> None:
        """Append an event; `data` is anything that JSON can hold.

        Of events with the same `key` (1 to 128 printable characters) a late reader may ask for the latest alone.
        """
        await self._handle.writer.emit(self._handle.draft(type, data, key))

    async def append(self, type: str, text: str) -> None:
        """Append an event whose text continues that of the one before it, if that was appended under this type too."""
        await self._handle.writer.emit(self._handle.continuation(type, text))

    async def token(self, text: str) -> None:
        """Append a piece of text that is being generated."""
        await self.emit("token", shapes.token(text))

    async def thought(self, text: str) -> None:
        """Append a step of reasoning."""
        await self.emit("thought", shapes.thought(text))

    async def log(self, message: str) -> None:
        """Append a line for whoever reads along."""
        await self.emit("log", shapes.log(message))

    async def progress(self, step: int, total_steps: int, message: str = "") -> None:
        """Append `progress`, with the percentage."""
        await self.emit("progress", shapes.progress(step, total_steps, message))

    async def flush(self) -> str | None:
        """Wait until everything emitted so far is stored; returns `last_id`."""
        await self._handle.writer.flush()
        return self.last_id

    async def complete(self, result: Any = None) -> str:
        """End the stream with `complete`, for every reader and writer; returns the event's id once it is stored."""
        return str(await self._handle.writer.end(self._handle.completion(result)))

    async def fail(self, error: str, *, code: str = "failed") -> str:
        """The same with `error`, whose data are `error` and `code`."""
        return str(await self._handle.writer.end(self._handle.failure(error, code)))
