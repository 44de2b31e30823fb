"""What is asked of load processes and what they answer: plain data that crosses a pipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.payload import EVENT_BYTES


@dataclass(frozen=True, slots=True)
class Emission:
    """What is published: `streams` streams with `events` events each."""

    streams: int
    events: int
    #: Events a second on each stream; 0 for as fast as the peer takes them.
    rate: float
    event_bytes: int = EVENT_BYTES
    #: Events that are on each stream before the others, numbered with them; the product only.
    preload: int = 0
    preload_bytes: int = EVENT_BYTES

    def due_ns(self, stream: int, number: int) -> int:
        """When an event is due, in nanoseconds after the start. Streams take turns, so the whole flows evenly."""
        if not self.rate:
            return 0
        return int((number + stream / self.streams) / self.rate * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """Subscribers of one peer."""

    host: str
    port: int
    #: One path for each stream; every stream has `subscribers` subscribers.
    paths: tuple[str, ...]
    subscribers: int
    #: How many events a stream will have; 0 for subscribers that only sit there.
    events: int
    #: The number of the first event that a subscriber gets.
    first: int = 0
    line_end: bytes = b"\n"
    #: How many subscribers, spread over all, tell when each event reached them.
    samples: int = 64
    #: How long a subscriber that lost its connection waits before it comes back; None: losing it is a failure.
    reconnect_ms: int | None = None
    #: From one event to the next on a stream; with `reconnect_ms`, tells whether a subscriber has the newest.
    interval_ns: int = 0
    #: Whether connections are opened but nothing is asked for until `Ask` is told.
    asks_later: bool = False
    #: If everything is not received this long after all are attached, the run fails.
    patience_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Send the requests that were held back."""


@dataclass(frozen=True, slots=True)
class Killed:
    """The server was killed at this monotonic time: measure how long each subscriber takes to catch up."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Open one more connection to the first path, ask, and never read."""


@dataclass(frozen=True, slots=True)
class Count:
    """Say how many events have been received."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Events received so far, over all subscribers."""

    events: int


@dataclass(frozen=True, slots=True)
class Attached:
    """Every subscriber has its response (or, with `asks_later`, its connection)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """When the first of the requests that were held back was sent."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of all subscribers' streams have been published and received so far, between 0 and 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The run failed; the sentence says how."""

    sentence: str


@dataclass(slots=True)
class Drained:
    """Everything is with every subscriber, checked."""

    at_ns: int
    #: Events received, over all subscribers.
    delivered: int
    #: Reads from sockets: below `delivered` where several events came in one.
    reads: int
    received_bytes: int
    reconnections: int
    #: For each sample: number of the event, and nanoseconds from its stamp to the subscriber.
    sampled: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    #: For each subscriber: nanoseconds from the kill until it had the newest event.
    caught_up_ns: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSpec:
    """A publisher that writes to a peer over its own protocol."""

    host: str
    port: int
    #: "http" posts to a path, "redis" appends to a key; `targets` has one of them for each stream.
    wire: str
    targets: tuple[str, ...]
    emission: Emission
    #: Connections; each stream keeps to one, so that its events stay in order.
    connections: int = 8


@dataclass(frozen=True, slots=True)
class Go:
    """Start publishing at this monotonic time."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The publisher is connected."""


@dataclass(frozen=True, slots=True)
class Published:
    """Every event was confirmed by the peer."""

    at_ns: int
