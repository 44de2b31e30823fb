"""(a) and (b): one stream to a thousand subscribers, more than anybody can deliver, and a load that all can carry."""

from __future__ import annotations

from typing import Final

from benchmarks.load.spec import Emission
from benchmarks.peers.peer import Design
from benchmarks.scenarios.delivery import deliver
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, times
from benchmarks.stage import Stage

SUBSCRIBERS: Final = 1000
OFFERED: Final = Emission(streams=1, events=800, rate=1000)
#: A design that delivers 40,000 a second needs 25 s for each second of the offer.
OFFERED_TO_THE_SLOW: Final = Emission(streams=1, events=250, rate=1000)
STEADY: Final = Emission(streams=1, events=300, rate=100)
STEADY_FOR_THE_SLOW: Final = Emission(streams=1, events=100, rate=100)


def _flood(stage: Stage, design: Design) -> Figures:
    emission = OFFERED_TO_THE_SLOW if design is Design.TUTORIAL else OFFERED
    with stage.peer(design) as peer:
        return deliver(stage, peer, emission, subscribers=SUBSCRIBERS).figures()


def _steady(stage: Stage, design: Design) -> Figures:
    emission = STEADY_FOR_THE_SLOW if design is Design.TUTORIAL else STEADY
    with stage.peer(design) as peer:
        return deliver(stage, peer, emission, subscribers=SUBSCRIBERS).figures()


FLOOD: Final = Scenario(
    key="a",
    title="1 stream, 1000 subscribers, 1000 events/s offered",
    run=_flood,
    designs=(Design.REPRISE, Design.NCHAN),
    run_once=(Design.TUTORIAL,),
    shown=(Shown("delivered_per_second", "delivered", "events/s", 0),),
    targets=(Target("delivered events/s ÷ Nchan's", times("a", "delivered_per_second"), 6.0, is_at_least=True),),
)

STEADY_FAN_OUT: Final = Scenario(
    key="b",
    title="1 stream, 1000 subscribers, 100 events/s",
    run=_steady,
    designs=(Design.REPRISE, Design.NCHAN),
    run_once=(Design.TUTORIAL,),
    shown=(
        Shown("server_us", "server CPU per delivered event", "µs", 2),
        Shown("p50_ms", "latency p50", "ms"),
        Shown("p99_ms", "latency p99", "ms"),
    ),
    targets=(
        Target("server CPU per delivered event ÷ Nchan's", times("b", "server_us"), 1.2, is_at_least=False),
        Target("p99 latency ÷ Nchan's", times("b", "p99_ms"), 1.0, is_at_least=False),
    ),
)
