"""Settings of the server process. What it shares with workers is in `server.streams.settings`."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from server.streams.settings import CoreSettings, Words


class ServerSettings(CoreSettings):
    """One server process: one replica."""

    sibling_names: ClassVar[frozenset[str]] = frozenset(
        {"tasks", "queues", "concurrency", "append_delay_ms", "write_timeout_seconds", "name"}
    )

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address to listen on; `0.0.0.0` or `::` for every interface.",
    )
    port: int = Field(8000, ge=0, le=65_535, description="The port to listen on; `0` takes a free one.")
    heartbeat_seconds: float = Field(
        15,
        ge=0.1,
        le=300,
        description="How long a stream may be silent before a heartbeat is sent; proxies wait four of them.",
    )
    max_stream_seconds: float = Field(
        1800,
        ge=1,
        le=86_400,
        description="How long a response lasts before its reader is sent to reconnect; at random 20 % less.",
    )
    stall_seconds: float = Field(
        60,
        ge=1,
        le=3600,
        description="How long a reader may take nothing of what it is sent before it is disconnected.",
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="How many event streams one server carries; beyond, readers are asked to come back.",
    )
    window_bytes: ByteSize = Field(
        ByteSize(1_048_576),
        ge=4096,
        le=2**30,
        description="How much of the end of each watched stream stays in memory; also as `1MiB`.",
    )
    sweep_seconds: float = Field(
        5,
        ge=0.1,
        le=60,
        description="How often the logs of watched streams are looked at, in case a doorbell was lost.",
    )
    outage_seconds: float = Field(
        15,
        ge=0.1,
        le=86_400,
        description="How long Redis may be out of reach before readers are asked to come back, at another server.",
    )
    disconnect_grace_seconds: float = Field(
        30,
        ge=0.1,
        le=86_400,
        description='How long nobody may follow a task with `on_disconnect="cancel"` before it is cancelled.',
    )
    allowed_origins: Words = Field(
        (),
        description="Web origins, with commas between them, whose pages may read this server; `*` for all.",
    )

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and (not origin.startswith(("http://", "https://")) or origin.count("/") != 2):
                raise ValueError(f"{origin!r} is not an origin; write it as https://app.example.org")
        return value

    @model_validator(mode="after")
    def _heartbeat_within_stream(self) -> Self:
        if self.heartbeat_seconds > self.max_stream_seconds:
            raise ValueError(
                f"REPRISE_HEARTBEAT_SECONDS ({self.heartbeat_seconds:g}) is above REPRISE_MAX_STREAM_SECONDS "
                f"({self.max_stream_seconds:g}), so that no heartbeat would ever be sent. "
                "Lower the first or raise the second."
            )
        return self

    @model_validator(mode="after")
    def _window_holds_an_event(self) -> Self:
        if self.window_bytes < self.max_event_bytes:
            raise ValueError(
                f"REPRISE_WINDOW_BYTES ({int(self.window_bytes)}) is below REPRISE_MAX_EVENT_BYTES "
                f"({int(self.max_event_bytes)}), so that the largest event would not fit. "
                "Raise the first or lower the second."
            )
        return self
