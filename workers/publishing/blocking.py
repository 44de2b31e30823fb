"""The twin of `OpenStream` for threads: the same calls, which block. The work is done on the background's loop."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from server.streams.event import Draft
from workers import shapes
from workers.publishing.background import background
from workers.publishing.handle import Handle
from workers.publishing.inbox import Inbox
from workers.publishing.options import DurabilityName, StreamOptions


def open_stream_sync(
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
) -> OpenStreamSync:
    """A stream to write to, for `with`, from any number of threads.

        with open_stream_sync("redis://localhost:6379/0", "chat.42") as stream:
            stream.token("Hello")

    Everything is as in `open_stream`. All streams of a process share one thread and one connection, which stay until
    the process ends. Open it where it is used: after a fork, inside the Celery or RQ task.
    """
    return OpenStreamSync(
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


class OpenStreamSync:
    """A handle to one stream, for any number of threads. Made by `open_stream_sync`.

    Order: events of one thread are stored in the order of its calls. All else is as in `OpenStream`.
    """

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._handle = Handle(options)
        self._inbox: Inbox | None = None

    @property
    def name(self) -> str:
        return self._handle.name

    @property
    def last_id(self) -> str | None:
        """The id of the last event of this handle that is known to be stored: a cursor for readers."""
        return self._handle.last_id

    def __enter__(self) -> Self:
        there = background()

        async def enter() -> None:
            there.keep_lane(self._options.redis_url, self._options.durability)
            self._handle.enter()
            self._inbox = Inbox(self._handle.writer, there.soon)

        there.run(enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle.is_open_here:  # else the process that opened it stores what it holds
            background().run(self._leave(self._inbox, is_failing=kind is not None))

    def emit(self, type: str, data: Any = None, *, key: str | None = None) -> None:
        """Append an event; `data` is anything that JSON can hold.

        Of events with the same `key` (1 to 128 printable characters) a late reader may ask for the latest alone.
        """
        self._put(self._handle.draft(type, data, key))

    def append(self, type: str, text: str) -> None:
        """Append an event whose text continues that of the one before it, if that was appended under this type too."""
        self._put(self._handle.continuation(type, text))

    def _put(self, draft: Draft) -> None:
        inbox = self._open_inbox
        if not inbox.put(draft):
            background().run(inbox.emit(draft))

    def token(self, text: str) -> None:
        """Append a piece of text that is being generated."""
        self.emit("token", shapes.token(text))

    def thought(self, text: str) -> None:
        """Append a step of reasoning."""
        self.emit("thought", shapes.thought(text))

    def log(self, message: str) -> None:
        """Append a line for whoever reads along."""
        self.emit("log", shapes.log(message))

    def progress(self, step: int, total_steps: int, message: str = "") -> None:
        """Append `progress`, with the percentage."""
        self.emit("progress", shapes.progress(step, total_steps, message))

    def flush(self) -> str | None:
        """Wait until everything emitted so far is stored; returns `last_id`."""
        background().run(self._flush(self._open_inbox))
        return self.last_id

    def complete(self, result: Any = None) -> str:
        """End the stream with `complete`, for every reader and writer; returns the event's id once it is stored."""
        return self._end(self._handle.completion(result))

    def fail(self, error: str, *, code: str = "failed") -> str:
        """The same with `error`, whose data are `error` and `code`."""
        return self._end(self._handle.failure(error, code))

    def _end(self, draft: Draft) -> str:
        return background().run(self._append_end(self._open_inbox, draft))

    @property
    def _open_inbox(self) -> Inbox:
        """Raises `StreamClosed` as the handle does."""
        inbox, _ = self._inbox, self._handle.writer
        if inbox is None:
            raise AssertionError
        return inbox

    # On the loop of the background.

    async def _flush(self, inbox: Inbox) -> None:
        inbox.empty()
        inbox.check()
        await self._handle.writer.flush()

    async def _append_end(self, inbox: Inbox, draft: Draft) -> str:
        inbox.empty()
        inbox.check()
        return str(await self._handle.writer.end(draft))

    async def _leave(self, inbox: Inbox | None, *, is_failing: bool) -> None:
        if inbox:
            inbox.empty()
        await self._handle.leave(is_failing=is_failing)
        if inbox and not is_failing:
            inbox.check()
