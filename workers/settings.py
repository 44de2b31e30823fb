"""Settings of the worker process. What it shares with servers is in `server.streams.settings`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from server.streams.errors import InvalidInput
from server.streams.names import parse_queue_name
from server.streams.settings import CoreSettings, Words


class WorkerSettings(CoreSettings):
    """One worker process."""

    sibling_names: ClassVar[frozenset[str]] = frozenset(
        {
            "host",
            "port",
            "heartbeat_seconds",
            "max_stream_seconds",
            "max_connections",
            "stall_seconds",
            "window_bytes",
            "sweep_seconds",
            "disconnect_grace_seconds",
            "outage_seconds",
            "allowed_origins",
        }
    )

    tasks: Words = Field(
        ("workers.examples",),
        min_length=1,
        description="Modules that hold task functions, with commas between them.",
    )
    queues: Words = Field(
        (),
        description="Queues to take tasks from, most urgent first; if empty, `default` and those of its task types.",
    )
    concurrency: int = Field(10, ge=1, le=10_000, description="How many tasks one worker runs side by side.")
    append_delay_ms: int = Field(
        0,
        ge=0,
        le=1000,
        description="How long an event may wait for others, so that appends become fewer; `0`: not at all when idle.",
    )
    write_timeout_seconds: float = Field(
        300,
        ge=1,
        le=7 * 86_400,
        description="How long Redis may store nothing of what a task emits before the attempt fails.",
    )
    name: str = Field(
        "",
        max_length=64,
        description="What this worker is called where workers are listed; the machine's name if empty.",
    )

    @field_validator("queues")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for queue in value:
            try:
                parse_queue_name(queue)
            except InvalidInput as error:
                raise ValueError(str(error).rstrip(".").replace(". Use", "; use")) from None
        if len(set(value)) < len(value):
            raise ValueError("a queue stands there twice, and so with two priorities")
        return value

    @field_validator("name")
    @classmethod
    def _fits_a_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("it must not hold control characters")
        return value
