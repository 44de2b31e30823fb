"""The measured run that most scenarios are: attach everybody, publish at a pace, wait until everybody has everything.

Invariant: the clock and the CPU accounts run from the moment publishing may begin until the last subscriber has its
last event, for every peer alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.load import child
from benchmarks.load.spec import Attached, Drained, Emission, LoadSpec
from benchmarks.measure import cpu_seconds, machine_busy_seconds, percentile
from benchmarks.peers.peer import Peer, Publication
from benchmarks.stage import Stage

SUBSCRIBERS_MODULE: Final = "benchmarks.load.subscribers"

#: From attached to the start: what attaching left to do is done by then.
SETTLE_SECONDS: Final = 0.4
#: From saying when publishing begins to that moment. Told afterwards, tasks would begin with what they are late with.
_AHEAD_NS: Final = 50_000_000
#: The load generator gives up before, and says who is missing.
_ATTACH_SECONDS: Final = 200.0
_GRACE_SECONDS: Final = 30.0
#: Above this share of a processor the load generator may be what is measured.
SATURATED: Final = 0.9


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a run cost and how long it took."""

    seconds: float
    drained: Drained
    #: CPU seconds by account: `server`, `redis`, `writers`, `load`, and `others`: what has no part in it.
    cpu: dict[str, float]

    @property
    def per_second(self) -> float:
        return self.drained.delivered / self.seconds

    def microseconds(self, *accounts: str) -> float:
        """CPU of these accounts per delivered event."""
        return sum(self.cpu[each] for each in accounts) / self.drained.delivered * 1e6

    def latency_ms(self, share: float) -> float:
        return percentile([latency for _, latency in self.drained.sampled], share) / 1e6

    def figures(self) -> dict[str, float]:
        return {
            "delivered_per_second": self.per_second,
            "server_us": self.microseconds("server"),
            "redis_us": self.microseconds("redis"),
            "server_and_redis_us": self.microseconds("server", "redis"),
            "writers_us": self.microseconds("writers"),
            "p50_ms": self.latency_ms(0.5),
            "p99_ms": self.latency_ms(0.99),
            "server_share": self.cpu["server"] / self.seconds,
            "load_share": self.cpu["load"] / self.seconds,
            "others_share": self.cpu["others"] / self.seconds,
            "events_per_read": self.drained.delivered / max(1, self.drained.reads),
            "seconds": self.seconds,
        }


def load_spec(peer: Peer, publication: Publication, emission: Emission, *, subscribers: int) -> LoadSpec:
    """Subscribers for all of an emission; `dataclasses.replace` what differs."""
    return LoadSpec(
        host=peer.host,
        port=peer.port,
        paths=publication.paths,
        subscribers=subscribers,
        events=emission.preload + emission.events,
        line_end=peer.line_end,
    )


def attach(stage: Stage, load: child.Child) -> None:
    """Wait until every subscriber is attached, and let things settle."""
    load.hear(Attached, within_seconds=_ATTACH_SECONDS, on_progress=lambda share: stage.step("attaching", share))
    time.sleep(SETTLE_SECONDS)


class Meter:
    """CPU of a peer, of the load generator and of everything else on the machine, from one moment to another."""

    def __init__(self, accounts: Mapping[str, list[int]], load: child.Child) -> None:
        self._accounts = {**accounts, "load": [load.pid]}
        self._before = self._now()

    def spent(self) -> dict[str, float]:
        now = self._now()
        found = {name: now[name] - before for name, before in self._before.items()}
        found["others"] = max(0.0, 2 * found["others"] - sum(found.values()))
        return found

    def _now(self) -> dict[str, float]:
        return {
            **{name: cpu_seconds(pids) for name, pids in self._accounts.items()},
            "others": machine_busy_seconds(),
        }


def deliver(stage: Stage, peer: Peer, emission: Emission, *, subscribers: int) -> Delivery:
    """Publish an emission to that many subscribers a stream."""
    stage.step("preparing")
    publication = peer.prepare(emission)
    spec = load_spec(peer, publication, emission, subscribers=subscribers)
    with child.running(SUBSCRIBERS_MODULE, spec) as load:
        attach(stage, load)
        return publish_and_drain(stage, publication, load, accounts=peer.accounts(), patience=spec.patience_seconds)


def publish_and_drain(
    stage: Stage,
    publication: Publication,
    load: child.Child,
    *,
    accounts: Mapping[str, list[int]],
    during: Callable[[], None] | None = None,
    patience: float,
) -> Delivery:
    """Open the gate and measure until everything is received; `accounts` are processes that live that long."""
    meter = Meter(accounts, load)
    start_ns = time.monotonic_ns() + _AHEAD_NS
    publication.go(start_ns)
    if during:
        during()
    drained = load.hear(
        Drained,
        within_seconds=patience + _GRACE_SECONDS,
        on_progress=lambda share: stage.step("publishing", share),
    )
    return Delivery((drained.at_ns - start_ns) / 1e9, drained, meter.spent())
