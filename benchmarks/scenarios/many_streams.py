"""(c) and (d): one subscriber to a stream, for many streams. What an event costs must not grow with idle streams."""

from __future__ import annotations

from typing import Final

from benchmarks.load.spec import Emission
from benchmarks.peers.peer import Design
from benchmarks.scenarios.delivery import deliver
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, figure_of, ratio, times
from benchmarks.stage import Stage

THOUSAND: Final = Emission(streams=1000, events=30, rate=10)
EIGHT_THOUSAND: Final = Emission(streams=8000, events=4, rate=1)


def _run(emission: Emission, stage: Stage, design: Design) -> Figures:
    with stage.peer(design) as peer:
        return deliver(stage, peer, emission, subscribers=1).figures()


_SHOWN: Final = (
    Shown("server_us", "server CPU per event", "µs"),
    Shown("redis_us", "Redis CPU per event", "µs"),
    Shown("p99_ms", "latency p99", "ms"),
)

THOUSAND_STREAMS: Final = Scenario(
    key="c",
    title="1000 streams × 1 subscriber × 10 events/s",
    run=lambda stage, design: _run(THOUSAND, stage, design),
    designs=(Design.REPRISE, Design.NCHAN),
    shown_once=(Design.TUTORIAL,),
    shown=_SHOWN,
    targets=(
        Target(
            "CPU of server and Redis per event ÷ Nchan's", times("c", "server_and_redis_us"), 0.4, is_at_least=False
        ),
    ),
)

EIGHT_THOUSAND_STREAMS: Final = Scenario(
    key="d",
    title="8000 streams × 1 subscriber × 1 event/s",
    run=lambda stage, design: _run(EIGHT_THOUSAND, stage, design),
    designs=(Design.REPRISE,),
    shown=_SHOWN,
    targets=(
        Target(
            "server CPU per event ÷ that of (c)",
            ratio(figure_of("d", "server_us"), figure_of("c", "server_us")),
            1.4,
            is_at_least=False,
        ),
    ),
)
