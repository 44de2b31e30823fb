"""(c) and (d): one subscriber to a stream, for many streams. What an event costs must not grow with idle streams.

Preparing (d) takes much longer than measuring it: eight thousand tasks are created, claimed and subscribed to. So it is
prepared once, and each round is a stretch of the same run, with its CPU divided by what was received in it.

Writing ten thousand events a second, one by one to a thousand streams, costs more than serving them. The kernel places
all processes here: on two processors, half of the machine would be too little for all that is not the server.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.load import child
from benchmarks.load.spec import Count, Counted, Drained, Emission
from benchmarks.measure import percentile
from benchmarks.peers.peer import Design
from benchmarks.scenarios.delivery import SUBSCRIBERS_MODULE, Meter, attach, deliver, load_spec
from benchmarks.scenarios.scenario import Figures, Scenario, Shown, Target, figure_of, ratio, times
from benchmarks.stage import Stage

THOUSAND: Final = Emission(streams=1000, events=30, rate=10)
EIGHT_THOUSAND: Final = Emission(streams=8000, events=0, rate=1)
#: A worker that cannot write as fast as it is asked to has what is left to write, and the rounds before.
_PATIENCE_SECONDS: Final = 150.0
_WARM_UP: Final = 2
#: Events of each stream in one stretch of (d).
_STRETCH: Final = 4


def _run(stage: Stage, design: Design) -> Figures:
    with stage.peer(design, is_placed=False) as peer:
        return deliver(stage, peer, THOUSAND, subscribers=1).figures()


def _run_stretches(stage: Stage, design: Design, rounds: int) -> Sequence[Figures]:
    emission = dataclasses.replace(EIGHT_THOUSAND, events=_WARM_UP + rounds * _STRETCH)
    with stage.peer(design, is_placed=False) as peer:
        stage.step("preparing")
        publication = peer.prepare(emission)
        spec = dataclasses.replace(
            load_spec(peer, publication, emission, subscribers=1), samples=256, patience_seconds=_PATIENCE_SECONDS
        )
        with child.running(SUBSCRIBERS_MODULE, spec) as load:
            attach(stage, load)
            start_ns = time.monotonic_ns()
            publication.go(start_ns)
            time.sleep(_WARM_UP / emission.rate)
            stretches = [_stretch(stage, Meter(peer.accounts(), load), load, share=i / rounds) for i in range(rounds)]
            drained = load.hear(Drained, within_seconds=spec.patience_seconds)
    return [{**each, "p99_ms": _p99_ms(drained, index)} for index, each in enumerate(stretches)]


def _stretch(stage: Stage, meter: Meter, load: child.Child, *, share: float) -> dict[str, float]:
    stage.step("publishing", share)
    began, before = time.monotonic(), _received(load)
    time.sleep(_STRETCH / EIGHT_THOUSAND.rate)
    events, spent = max(1, _received(load) - before), meter.spent()
    seconds = time.monotonic() - began
    return {
        "delivered_per_second": events / seconds,
        "server_us": spent["server"] / events * 1e6,
        "redis_us": spent["redis"] / events * 1e6,
        "writers_us": spent["writers"] / events * 1e6,
        "load_share": spent["load"] / seconds,
        "server_share": spent["server"] / seconds,
        "others_share": spent["others"] / seconds,
    }


def _received(load: child.Child) -> int:
    load.tell(Count())
    return load.hear(Counted, within_seconds=20).events


def _p99_ms(drained: Drained, stretch: int) -> float:
    first = _WARM_UP + stretch * _STRETCH
    return percentile([each for number, each in drained.sampled if first <= number < first + _STRETCH], 0.99) / 1e6


_SHOWN: Final = (
    Shown("server_us", "server CPU per event", "µs"),
    Shown("redis_us", "Redis CPU per event", "µs"),
    Shown("p99_ms", "latency p99", "ms"),
)

THOUSAND_STREAMS: Final = Scenario(
    key="c",
    title="1000 streams × 1 subscriber × 10 events/s",
    run=_run,
    designs=(Design.REPRISE, Design.NCHAN),
    run_once=(Design.TUTORIAL,),
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
    run=lambda stage, design: _run_stretches(stage, design, 1)[0],
    run_rounds=_run_stretches,
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
